//! Tokens at rest: their digests and what they are for.

use super::Expiry;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use wildmatch::WildMatch;

/// Every token is compared with every request's; a list that long belongs into a directory service.
const TOKENS_MAX: usize = 10_000;
/// Marks the text as a token of this server, for people and for scanners that look for leaked ones.
const TOKEN_PREFIX: &str = "satisfice_";
const TOKEN_RANDOM_BYTES: usize = 32;

type Sha256Digest = [u8; 32];

/// Tokens that cannot be used. Every variant is the operator's mistake.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The file cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}: {message} (hint: `satisfice token new` prints an entry)", path = .path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The operating system gives no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
}

/// One token's entry in the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    sha256: String,
    #[serde(default)]
    models: Vec<String>,
    #[serde(default)]
    write: Vec<String>,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    metrics: bool,
    #[serde(default)]
    expires: Option<Expiry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    tokens: Vec<Entry>,
}

/// What is known of a token.
#[derive(Debug)]
pub(crate) struct Token {
    pub name: String,
    pub admin: bool,
    pub metrics: bool,
    /// After which it is refused; never where absent.
    pub expires: Option<Expiry>,
    digest: Sha256Digest,
    models: Vec<WildMatch>,
    write: Vec<WildMatch>,
}

impl Token {
    pub(super) fn is_for(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| pattern.matches(model))
    }

    pub(super) fn writes_to(&self, graph: &str) -> bool {
        self.write.iter().any(|pattern| pattern.matches(graph))
    }
}

/// All tokens.
#[derive(Debug)]
pub(super) struct Tokens(Vec<Arc<Token>>);

impl Tokens {
    /// Reads a file: JSON if it is called so, TOML otherwise.
    pub(super) fn read(path: &Path) -> Result<Self, TokensError> {
        let text = fs::read_to_string(path).map_err(|source| TokensError::Read {
            path: path.to_owned(),
            source,
        })?;
        let json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        Self::parse(&text, json).map_err(|message| TokensError::Wrong {
            path: path.to_owned(),
            message,
        })
    }

    fn parse(text: &str, json: bool) -> Result<Self, String> {
        let file: File = match json {
            true => serde_json::from_str(text)
                .map_err(|error| wrong_entry(error.line(), &error.to_string()))?,
            false => toml::from_str(text).map_err(|error| {
                let at = error.span().map_or(0, |span| span.start.min(text.len()));
                let before = &text[..text.floor_char_boundary(at)];
                wrong_entry(before.matches('\n').count() + 1, error.message())
            })?,
        };
        if file.tokens.len() > TOKENS_MAX {
            return Err(format!("more than {TOKENS_MAX} tokens"));
        }
        let tokens = file.tokens.into_iter().map(|entry| {
            let digest = digest_from_hex(&entry.sha256).ok_or_else(|| {
                format!(
                    "token `{}`: `sha256` is not 64 hexadecimal digits",
                    entry.name
                )
            })?;
            Ok(Arc::new(Token {
                digest,
                models: patterns(&entry.models),
                write: patterns(&entry.write),
                name: entry.name,
                admin: entry.admin,
                metrics: entry.metrics,
                expires: entry.expires,
            }))
        });
        tokens.collect::<Result<_, String>>().map(Self)
    }

    /// All of them, in the order of the file.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Token> {
        self.0.iter().map(|token| &**token)
    }

    /// The token with this text. Takes as long whether and wherever it is found.
    pub(super) fn find(&self, text: &str) -> Option<Arc<Token>> {
        let digest: Sha256Digest = Sha256::digest(text).into();
        let (mut found, mut index) = (Choice::from(0), 0_u64);
        for (at, token) in self.0.iter().enumerate() {
            let equal = token.digest.ct_eq(&digest);
            index.conditional_assign(&(at as u64), equal);
            found |= equal;
        }
        bool::from(found).then(|| Arc::clone(&self.0[index as usize]))
    }
}

fn patterns(texts: &[String]) -> Vec<WildMatch> {
    texts.iter().map(|text| WildMatch::new(text)).collect()
}

/// What is wrong in a line. Messages that quote a value are left out: it may be a token.
fn wrong_entry(line: usize, message: &str) -> String {
    let names_a_key = ["unknown field", "missing field", "duplicate"];
    match names_a_key.iter().any(|start| message.starts_with(start)) {
        true => format!("line {line}: {message}"),
        false => format!("line {line}: this is not what an entry looks like"),
    }
}

fn digest_from_hex(text: &str) -> Option<Sha256Digest> {
    let mut digest = Sha256Digest::default();
    if text.len() != 2 * digest.len() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(digest)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("invariant: writing to a String does not fail");
        text
    })
}

/// A new token and its digest in hexadecimal digits: the first is for the client, the second for
/// the file.
///
/// # Errors
/// [`TokensError::Random`].
pub fn new_token() -> Result<(String, String), TokensError> {
    let mut random = [0; TOKEN_RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(TokensError::Random)?;
    let token = format!("{TOKEN_PREFIX}{}", hex(&random));
    let digest = hex(&Sha256::digest(&token));
    Ok((token, digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(digest: &str) -> String {
        format!("[[tokens]]\nname = \"a\"\nsha256 = \"{digest}\"\nmodels = [\"gcn*\", \"sage2\"]\n")
    }

    #[test]
    fn a_new_token_is_found_by_its_digest() {
        let (token, digest) = new_token().unwrap();
        let (other, other_digest) = new_token().unwrap();
        assert_ne!(token, other);
        let text = entry(&other_digest) + &entry(&digest).replace("\"a\"", "\"b\"");
        let tokens = Tokens::parse(&text, false).unwrap();
        assert_eq!(tokens.find(&token).unwrap().name, "b");
        assert_eq!(tokens.find(&other).unwrap().name, "a");
        for text in [
            "",
            "satisfice_",
            &digest,
            &token[1..],
            &token.to_uppercase(),
        ] {
            assert!(tokens.find(text).is_none(), "{text}");
        }
    }

    #[test]
    fn models_are_names_or_patterns() {
        let tokens = Tokens::parse(&entry(&"0".repeat(64)), false).unwrap();
        for (model, is_for) in [
            ("gcn2", true),
            ("gcn", true),
            ("sage2", true),
            ("sage", false),
        ] {
            assert_eq!(tokens.0[0].is_for(model), is_for, "{model}");
        }
    }

    #[test]
    fn toml_and_json_say_the_same() {
        let (token, digest) = new_token().unwrap();
        let json =
            format!(r#"{{"tokens": [{{"name": "j", "sha256": "{digest}", "admin": true}}]}}"#);
        let tokens = Tokens::parse(&json, true).unwrap();
        assert!(tokens.find(&token).unwrap().admin);
    }

    #[test]
    fn wrong_files_are_refused_without_their_contents() {
        for text in [
            &entry("abc"),
            &entry(&"é".repeat(32)),
            &entry(&"g".repeat(64)),
            "[[tokens]]\nname = \"a\"\ntoken = \"very-secret\"\n",
            "tokens = \"very-secret\"",
            "[[tokens]]\nname = \"a\"\n",
            &(entry(&"0".repeat(64)) + "expires = \"very-secret\"\n"),
        ] {
            let error = Tokens::parse(text, false).unwrap_err();
            assert!(!error.contains("very-secret"), "{error}");
        }
    }
}
