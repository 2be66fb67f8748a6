//! What a stream can show.

use std::{env, io::IsTerminal, os::fd::AsFd};

use crate::report::Style;

/// Columns where there is no terminal to ask.
const COLUMNS: usize = 80;
/// Longer lines are hard to read.
const WIDEST: usize = 120;

/// Width of a stream's terminal, and whether it may get escape sequences (<https://no-color.org>).
pub(super) fn style(stream: &(impl IsTerminal + AsFd)) -> Style {
    if !stream.is_terminal() {
        return Style::plain(COLUMNS);
    }
    let width = rustix::termios::tcgetwinsize(stream).map_or(0, |size| usize::from(size.ws_col));
    let dumb = env::var_os("TERM").is_none_or(|name| name == "dumb");
    let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Style { width: if width == 0 { COLUMNS } else { width.min(WIDEST) }, bold: !dumb && !plain }
}
