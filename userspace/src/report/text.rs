//! Lines that fit a terminal: wrapped, aligned, and without anything that a terminal would act on.

use crate::{shell::printable, syscalls::Abi};

/// Narrower terminals get lines as for this one.
const NARROWEST: usize = 40;
/// A last column with less room than this goes below the others.
const LEAST_ROOM: usize = 26;

/// How text is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Columns of the terminal.
    pub width: usize,
    /// Headings may be bold: the caller has seen a terminal, and no `NO_COLOR`.
    pub bold: bool,
}

impl Style {
    /// Without escape sequences.
    #[must_use]
    pub fn plain(width: usize) -> Self {
        Self { width, bold: false }
    }

    pub(super) fn heading(self, text: &str) -> String {
        if self.bold { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn width(self) -> usize {
        self.width.max(NARROWEST)
    }
}

/// Text from the workload on one line, with what a terminal would act on escaped.
pub(super) fn inline(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

/// A path from the workload; quoted when it could be taken for more than one word.
pub(super) fn shown(path: &str) -> String {
    let path = inline(path);
    // `(other programs)` is our own.
    if path.contains(' ') && !path.starts_with('(') { format!("'{path}'") } else { path }
}

/// The same, without its beginning when it is longer than `length`: the end of a path tells more.
pub(super) fn clipped(text: &str, length: usize) -> String {
    let text = shown(text);
    let over = text.chars().count().saturating_sub(length);
    if over == 0 { text } else { format!("…{}", text.chars().skip(over + 1).collect::<String>()) }
}

/// `once`, `2 times`, `12,345 times`.
pub(super) fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{} times", thousands(count)) }
}

fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `no device`, `1 device`, `2 devices`.
pub(super) fn number(count: usize, one: &str, many: &str) -> String {
    match count {
        0 => format!("no {one}"),
        1 => format!("1 {one}"),
        _ => format!("{count} {many}"),
    }
}

/// Adds a line as it is.
pub(super) fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// Adds to a line.
pub(super) fn add(out: &mut String, text: &str) {
    out.push_str(text);
}

/// A call, with its ABI unless it is the usual one.
pub(super) fn call(name: &str, abi: Abi) -> String {
    let name = inline(name);
    if abi == Abi::X86_64 { name } else { format!("{name} ({abi})") }
}

/// Adds a line that starts with `start`, breaking `text` between words; what follows is indented by
/// `indent`.
pub(super) fn wrap(out: &mut String, start: &str, indent: usize, text: &str, style: Style) {
    let width = style.width();
    // A start that fills the line by itself leaves its text to the next.
    let mut column = start.chars().count();
    out.push_str(start);
    let mut fresh = true;
    for word in text.split(' ') {
        let mut word: &str = word;
        let length = word.chars().count();
        let space = usize::from(!fresh);
        if column + space + length > width && (!fresh || column > indent) {
            new_line(out, indent);
            column = indent;
        } else if !fresh {
            out.push(' ');
            column += 1;
        }
        // A word longer than any line is broken where the line ends.
        while column + word.chars().count() > width {
            let room = width.saturating_sub(column).max(1);
            let at = word.char_indices().nth(room).map_or(word.len(), |(at, _)| at);
            let (head, tail) = word.split_at(at);
            out.push_str(head);
            if tail.is_empty() {
                word = tail;
                break;
            }
            new_line(out, indent);
            column = indent;
            word = tail;
        }
        out.push_str(word);
        column += word.chars().count();
        fresh = false;
    }
    while out.ends_with(' ') {
        out.pop();
    }
    out.push('\n');
}

fn new_line(out: &mut String, indent: usize) {
    while out.ends_with(' ') {
        out.pop();
    }
    out.push('\n');
    out.push_str(&" ".repeat(indent));
}

/// Rows of aligned columns, the last of them wrapped; below the others where there is too little room.
pub(super) fn rows<const N: usize>(out: &mut String, indent: usize, rows: &[[String; N]], style: Style) {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let left: usize = widths.iter().take(N - 1).filter(|&&width| width > 0).map(|width| width + 2).sum();
    for row in rows {
        let mut start = " ".repeat(indent);
        for (cell, &width) in row.iter().zip(&widths).take(N - 1).filter(|(_, width)| **width > 0) {
            start.push_str(cell);
            start.push_str(&" ".repeat(width + 2 - cell.chars().count()));
        }
        let Some(last) = row.last() else { continue };
        if indent + left + LEAST_ROOM > style.width() {
            out.push_str(start.trim_end());
            out.push('\n');
            wrap(out, &" ".repeat(indent + 4), indent + 4, last, style);
        } else {
            wrap(out, &start, indent + left, last, style);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(text: &str) -> String {
        let mut out = String::new();
        wrap(&mut out, "  a  ", 5, text, Style::plain(40));
        out
    }

    #[test]
    fn lines_break_between_words_and_within_words_that_fit_no_line() {
        assert_eq!(wrapped("one two"), "  a  one two\n");
        let text = wrapped("the quick brown fox jumps over the lazy dog");
        assert_eq!(text, "  a  the quick brown fox jumps over the\n     lazy dog\n");
        let text = wrapped(&"x".repeat(90));
        assert!(text.lines().all(|line| line.len() <= 40), "{text}");
        assert_eq!(text.matches('x').count(), 90);
        assert_eq!(wrapped(""), "  a\n");
    }

    #[test]
    fn columns_that_leave_no_room_stand_above() {
        let mut out = String::new();
        let row = ["CAP_DAC_READ_SEARCH".to_owned(), "because of this".to_owned()];
        rows(&mut out, 2, std::slice::from_ref(&row), Style::plain(80));
        rows(&mut out, 2, &[row], Style::plain(40));
        assert_eq!(
            out,
            "  CAP_DAC_READ_SEARCH  because of this\n  CAP_DAC_READ_SEARCH\n      because of this\n"
        );
    }

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!([1, 2, 1234, 1_234_567].map(times), ["once", "2 times", "1,234 times", "1,234,567 times"]);
    }
}
