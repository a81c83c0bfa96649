//! Keeping what a client sent from filling the messages that quote it.

use std::borrow::Cow;

const QUOTE_BYTES_MAX: usize = 80;

/// `text`, cut after 80 bytes.
pub(crate) fn clip(text: &str) -> Cow<'_, str> {
    if text.len() <= QUOTE_BYTES_MAX {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(QUOTE_BYTES_MAX);
    Cow::Owned(format!("{}…", &text[..end]))
}

/// At most 20 names, quoted and separated by commas.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const NAMES_MAX: usize = 20;
    let mut names = names.into_iter();
    let shown: Vec<_> = names
        .by_ref()
        .take(NAMES_MAX)
        .map(|name| format!("`{}`", clip(name)))
        .collect();
    match (shown.is_empty(), names.count()) {
        (true, _) => "none".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(clip("short"), "short");
        assert!(clip(&"é".repeat(100)).len() < 90);
    }

    #[test]
    fn lists_end() {
        assert_eq!(list([]), "none");
        assert_eq!(list(["a", "b"]), "`a`, `b`");
        assert!(list(["a"; 25]).ends_with("`a` and 5 more"));
    }
}
