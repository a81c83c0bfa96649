use super::Output;
use crate::cli::{TokenCommand, TokenNew};
use anyhow::Result;
use satisfice_server::access::{Expiry, new_token};
use serde::Serialize;

pub(crate) fn run(command: &TokenCommand, output: Output) -> Result<()> {
    match command {
        TokenCommand::New(args) => new(args, output),
    }
}

/// An entry of the file.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    sha256: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    models: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    write: &'a [String],
    #[serde(skip_serializing_if = "is_false")]
    admin: bool,
    #[serde(skip_serializing_if = "is_false")]
    metrics: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Expiry>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Serialize)]
struct Document<'a> {
    token: String,
    entry: Entry<'a>,
}

fn new(args: &TokenNew, output: Output) -> Result<()> {
    let (token, sha256) = new_token()?;
    let entry = Entry {
        name: &args.name,
        sha256,
        models: &args.models,
        write: &args.write,
        admin: args.admin,
        metrics: args.metrics,
        expires: args.expires,
    };
    let text = toml::to_string(&entry)?;
    if !output.json {
        // Not on standard output, which may be a file's end.
        eprintln!("the token, for the client alone: {token}");
    }
    let document = Document { token, entry };
    output.print(&document, || format!("[[tokens]]\n{text}"))
}
