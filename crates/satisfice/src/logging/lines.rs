//! One line for one event, whatever a client has sent that is quoted in it.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, Write},
};

/// Writes events, of which each comes in one piece, with everything escaped in them that could end a line, begin
/// another or hide a part of it.
pub(super) struct Lines<W>(pub W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(event) {
            Ok(text) => self.0.write_all(escaped(text).as_bytes())?,
            Err(_) => self.0.write_all(event)?, // nobody writes such an event
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn escaped(event: &str) -> Cow<'_, str> {
    let (line, end) = match event.strip_suffix('\n') {
        Some(line) => (line, "\n"),
        None => (event, ""),
    };
    if !line.contains(is_unsafe) {
        return Cow::Borrowed(event);
    }
    let mut safe = String::with_capacity(event.len() + 16);
    for character in line.chars() {
        // As JSON has it, because an event may be a line of JSON. Writing to a text does not fail.
        match character {
            '\n' | '\r' | '\t' => drop(write!(safe, "{}", character.escape_default())),
            _ if is_unsafe(character) => drop(write!(safe, "\\u{:04x}", u32::from(character))),
            _ => safe.push(character),
        }
    }
    safe.push_str(end);
    Cow::Owned(safe)
}

/// Escape characters are left: colours begin with them, and the formatter has escaped those in what it quotes.
fn is_unsafe(character: char) -> bool {
    let separates = matches!(character, '\u{2028}' | '\u{2029}');
    let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() && character != '\u{1b}' || separates || turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        for (event, line) in [
            ("a plain event\n", "a plain event\n"),
            (
                "no model `a\nERROR forged`\n",
                "no model `a\\nERROR forged`\n",
            ),
            ("a\r\nb\n", "a\\r\\nb\n"),
            (
                "\u{1b}[2mcolours\u{1b}[0m stay\n",
                "\u{1b}[2mcolours\u{1b}[0m stay\n",
            ),
            (
                "back\u{8}\u{7f}\u{85}\u{9b}\n",
                "back\\u0008\\u007f\\u0085\\u009b\n",
            ),
            ("\u{2028}\u{202e}turned", "\\u2028\\u202eturned"),
            ("é 漢\n", "é 漢\n"),
        ] {
            let mut written = Vec::new();
            Lines(&mut written).write_all(event.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), line);
        }
    }

    #[test]
    fn an_event_of_json_stays_json() {
        let path = "/\u{7f}\u{85}\u{2028}\u{2066}\n\t\"\\\u{fffd}";
        let event = serde_json::json!({ "path": path }).to_string();
        let line = escaped(&event);
        assert!(!line.contains(is_unsafe), "{line}");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["path"], path);
    }
}
