//! Argument vectors as POSIX shell words, and foreign text made safe for a terminal.

use std::fmt::Write as _;

/// One line for `sh`: every word that could mean anything else is in single quotes, where only `'` itself
/// is special. Any text round-trips except NUL, which no argument can hold.
#[must_use]
pub fn shell_quote(arguments: &[String]) -> String {
    join(arguments, quote_word)
}

/// The same line for a person's terminal: words with control or invisible characters are written `$'…'`
/// with escapes, so nothing in them reaches the terminal as a command. Bash and zsh read that form back.
#[must_use]
pub fn shell_display(arguments: &[String]) -> String {
    join(arguments, |word| {
        if word.chars().any(is_unsafe) { format!("$'{}'", escape(word, true)) } else { quote_word(word) }
    })
}

/// Foreign text for a message: line breaks stay, all else that a terminal would act on is escaped.
#[must_use]
pub fn printable(text: &str) -> String {
    text.split('\n').map(|line| escape(line, false)).collect::<Vec<_>>().join("\n")
}

/// [`printable`] for a name within a line: line breaks are escaped as well.
#[must_use]
pub fn one_line(text: &str) -> String {
    escape(text, false)
}

/// The same JSON with nothing that a terminal would act on: it leaves the control characters beyond ASCII alone.
#[must_use]
pub fn escape_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        // The line breaks are the layout's; those of strings are escaped already.
        if character == '\n' || !is_unsafe(character) {
            escaped.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    }
    escaped
}

/// One word for `sh`.
#[must_use]
pub fn quote_word(word: &str) -> String {
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'_' | b'@' | b'%' | b'+' | b'=' | b':' | b',' | b'.' | b'/' | b'-')
    };
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn join(arguments: &[String], quote: impl Fn(&str) -> String) -> String {
    let mut line = String::new();
    for (index, word) in arguments.iter().enumerate() {
        let quoted = quote(word);
        if index > 0 {
            line.push(' ');
            line.push_str(&quoted);
        } else if quoted == *word && means_more_than_a_command(word) {
            line = format!("'{word}'");
        } else {
            line = quoted;
        }
    }
    line
}

/// In the place of the command, `A=b` is an assignment and these are reserved (POSIX XCU 2.4).
fn means_more_than_a_command(word: &str) -> bool {
    const RESERVED: [&str; 13] =
        ["case", "do", "done", "elif", "else", "esac", "fi", "for", "if", "in", "then", "until", "while"];
    word.contains('=') || RESERVED.contains(&word)
}

/// Control characters, and those that reorder or hide the text around them.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

fn escape(text: &str, quoted: bool) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        // Writing to a String cannot fail.
        let _ = match character {
            '\n' => escaped.write_str("\\n"),
            '\t' => escaped.write_str("\\t"),
            '\r' => escaped.write_str("\\r"),
            '\\' | '\'' if quoted => write!(escaped, "\\{character}"),
            _ if is_unsafe(character) && u32::from(character) < 0x80 => {
                write!(escaped, "\\x{:02x}", u32::from(character))
            }
            _ if is_unsafe(character) && u32::from(character) < 0x1_0000 => {
                write!(escaped, "\\u{:04x}", u32::from(character))
            }
            _ if is_unsafe(character) => write!(escaped, "\\U{:08x}", u32::from(character)),
            _ => escaped.write_char(character),
        };
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|&word| word.to_owned()).collect()
    }

    /// What a real shell makes of the quoted words.
    fn through(shell: &str, quoted: &str) -> Vec<u8> {
        let script = format!("printf '%s\\0' {quoted}");
        Command::new(shell).arg("-c").arg(script).output().unwrap().stdout
    }

    fn hostile() -> Vec<String> {
        let mut list = words(&[
            "",
            " ",
            "plain",
            "it's",
            "''",
            "a\nb",
            "\n",
            "$(id)",
            "`id`",
            "\\",
            "\\'",
            "*",
            "~",
            "#x",
            "!x",
            "a=b",
            "-n",
            "\u{1b}[31mred",
            "\u{7f}",
            "\u{9b}2J",
            "caf\u{e9}",
            "\u{202e}txt.exe",
            "\r",
            "\t",
            "%s\\0",
            "\"",
            "a;b",
            "a&b",
            "{a,b}",
            "x\u{1}1",
            "\u{200b}9",
        ]);
        for byte in 1..=127_u8 {
            list.push(format!("a{}b", char::from(byte)));
        }
        list
    }

    #[test]
    fn quoting_round_trips_through_a_shell() {
        let list = hostile();
        let expected: Vec<u8> = list.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
        assert_eq!(through("sh", &shell_quote(&list)), expected);
    }

    #[test]
    fn what_is_displayed_holds_no_control_character() {
        let shown = shell_display(&hostile());
        assert!(!shown.chars().any(is_unsafe), "{shown}");
        assert_eq!(shell_display(&words(&["docker", "run", "a\u{1b}b'c"])), r"docker run $'a\x1bb\'c'");
        assert_eq!(printable("a\u{1b}]0;x\u{7}\nb"), "a\\x1b]0;x\\x07\nb");
    }

    #[test]
    fn the_first_word_stays_a_command() {
        assert_eq!(shell_quote(&words(&["A=b", "A=b"])), "'A=b' A=b");
        assert_eq!(shell_quote(&words(&["if", "if"])), "'if' if");
        assert_eq!(shell_quote(&words(&["./docker", "run"])), "./docker run");
    }
}
