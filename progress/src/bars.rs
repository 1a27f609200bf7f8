//! Progress bars as lines of text.

use std::fmt;
use std::io;
use std::mem;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use console::truncate_str;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use logcore::escape::to_short_line;
use logcore::sync::lock;
use logcore::{ProgressEvent, ProgressKind};

use crate::text;

/// Maximum number of bars that are shown. Further bars are only counted.
const VISIBLE: usize = 7;
/// Minimum width of a terminal, in columns, that has room for the bar itself.
const NARROW: usize = 50;
/// Maximum length of a description or of a metric, in characters. No terminal shows more.
const WIDEST: usize = 500;

/// The progress bars below the log lines of a terminal.
///
/// The bars are only text: the owner of the terminal writes the [`lines`](Self::lines). A line
/// never wraps. Where there is little room, the least important parts are left out first: metrics,
/// samples, rate, times.
///
/// ```
/// use logcore::{ProgressEvent, ProgressKind};
/// use logcore_progress::{Bars, Viewport};
/// use std::time::Instant;
///
/// let now = Instant::now();
/// let mut event = ProgressEvent::new(ProgressKind::Advanced, 1, "trainer", "Training");
/// (event.position, event.total) = (450, Some(1000));
/// let mut bars = Bars::plain();
/// bars.show(&event, &["loss=0.4321".to_owned()], now);
/// let lines = bars.lines(Viewport { columns: 70, rows: 24 }, now);
/// assert_eq!(lines, ["Training  45% ━━━━━━╸───────  450/1000 [00:00] loss=0.4321"]);
/// ```
pub struct Bars {
    color: bool,
    /// Sorted by line, then by age.
    bars: Vec<Bar>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Viewport {
    /// Width.
    pub columns: usize,
    /// Height.
    pub rows: usize,
}

struct Bar {
    event: ProgressEvent<'static>,
    description: String,
    newest: Vec<String>,
    /// Time of the event. The elapsed time of the bar continues from there, unless the progress has
    /// ended.
    at: Instant,
    drawing: ProgressBar,
    drawn: BarBuffer,
    /// Width of the bar, and whether there is a total, for which the style was made.
    styled: Option<(usize, bool)>,
}

impl Bars {
    /// Returns an empty set of bars that are drawn with color codes.
    ///
    /// ```
    /// assert!(logcore_progress::Bars::colored().is_empty());
    /// ```
    #[must_use]
    pub fn colored() -> Self {
        Self {
            color: true,
            bars: Vec::new(),
        }
    }

    /// Returns an empty set of bars that are drawn as plain text.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            color: false,
            bars: Vec::new(),
        }
    }

    /// Returns `true` if there is no bar.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bars.is_empty()
    }

    /// Updates the bar of a progress, or adds one. `newest` is shown behind the bar, such as the
    /// newest metrics. `now` is the time of the event.
    ///
    /// The description of a bar is the one of its first event.
    pub fn show(&mut self, event: &ProgressEvent<'_>, newest: &[String], now: Instant) {
        let at = match self.bars.iter().position(|bar| bar.event.id == event.id) {
            Some(at) => at,
            None => self.insert(event, now),
        };
        let bar = &mut self.bars[at];
        bar.event = event.with_texts("", "");
        bar.newest = newest
            .iter()
            .map(|text| to_short_line(text, WIDEST).into_owned())
            .collect();
        bar.at = now;
    }

    /// Removes the bar of a progress.
    ///
    /// ```
    /// use std::time::Instant;
    ///
    /// use logcore::{ProgressEvent, ProgressKind};
    /// use logcore_progress::Bars;
    ///
    /// let mut bars = Bars::plain();
    /// bars.show(&ProgressEvent::new(ProgressKind::Started, 1, "trainer", "Training"), &[], Instant::now());
    /// bars.finish(1);
    /// assert!(bars.is_empty());
    /// ```
    pub fn finish(&mut self, id: u64) {
        self.bars.retain(|bar| bar.event.id != id);
    }

    /// Draws the bars as of `now`, the topmost first.
    ///
    /// Each line is narrower than the terminal, and there are fewer lines than rows. The last line
    /// counts the bars that have no room.
    pub fn lines(&mut self, viewport: Viewport, now: Instant) -> Vec<String> {
        let most = VISIBLE.min(viewport.rows.saturating_sub(2)).max(1);
        let shown = match self.bars.len() {
            count if count <= most => count,
            _ => most - 1,
        };
        let color = self.color;
        let mut lines: Vec<String> = self.bars[..shown]
            .iter_mut()
            .map(|bar| bar.line(viewport.columns, color, now))
            .collect();
        if shown < self.bars.len() {
            let hidden = self.bars.len() - shown;
            lines.push(within(&format!("… and {hidden} more"), viewport.columns));
        }
        lines
    }

    fn insert(&mut self, event: &ProgressEvent<'_>, now: Instant) -> usize {
        let at = self
            .bars
            .partition_point(|bar| (bar.event.line, bar.event.id) < (event.line, event.id));
        let drawn = BarBuffer::default();
        let target = ProgressDrawTarget::term_like(Box::new(drawn.clone()));
        let bar = Bar {
            event: event.with_texts("", ""),
            description: to_short_line(event.description, WIDEST).into_owned(),
            newest: Vec::new(),
            at: now,
            drawing: ProgressBar::with_draw_target(None, target),
            drawn,
            styled: None,
        };
        self.bars.insert(at, bar);
        at
    }
}

impl Bar {
    fn line(&mut self, columns: usize, color: bool, now: Instant) -> String {
        let since = match self.event.kind {
            ProgressKind::Finished => Duration::ZERO,
            _ => now.saturating_duration_since(self.at),
        };
        let mut event = self.event.clone();
        event.elapsed += since;
        event.eta = event.eta.map(|eta| eta.saturating_sub(since));
        let description = shortened(&self.description, (columns / 3).max(8));
        let bar = match (event.total, columns) {
            (None, _) | (_, ..NARROW) => 0,
            _ => (columns / 5).clamp(8, 30),
        };
        let percent = event.total.map_or(0, |_| " 100%".len());
        // Blanks before and after the bar and before the message, and one column that stays free.
        let taken = console::measure_text_width(&description) + percent + if bar > 0 { bar + 1 } else { 0 } + 2;
        let message = text::fitted(&event, &self.newest, columns.saturating_sub(taken));
        self.style(bar, color);
        match event.total {
            Some(total) => self.drawing.set_length(total),
            None => self.drawing.unset_length(),
        }
        self.drawing
            .set_position(event.position.min(event.total.unwrap_or(u64::MAX)));
        self.drawing.set_prefix(description);
        self.drawing.set_message(message);
        self.drawn.clear();
        self.drawing.tick();
        within(self.drawn.take().trim_end(), columns)
    }

    fn style(&mut self, bar: usize, color: bool) {
        let shape = (bar, self.event.total.is_some());
        if self.styled == Some(shape) {
            return;
        }
        self.styled = Some(shape);
        let (bold, bar_color) = if color { (":.bold", ".cyan/dim") } else { ("", "") };
        let template = match shape {
            (_, false) => format!("{{prefix{bold}}} {{msg}}"),
            (0, true) => format!("{{prefix{bold}}} {{percent:>3}}% {{msg}}"),
            (bar, true) => format!("{{prefix{bold}}} {{percent:>3}}% {{bar:{bar}{bar_color}}} {{msg}}"),
        };
        // The templates are constants. An invalid one would still leave a usable bar.
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.drawing.set_style(style.progress_chars("━╸─"));
    }
}

/// The terminal that `indicatif` draws on: a buffer for one line of text.
#[derive(Debug, Clone, Default)]
struct BarBuffer(Arc<Mutex<String>>);

impl BarBuffer {
    fn clear(&self) {
        self.take();
    }

    fn take(&self) -> String {
        mem::take(&mut *lock(&self.0))
    }
}

impl TermLike for BarBuffer {
    /// The width is unlimited, because [`Bar::line`] fits the text to the real terminal.
    fn width(&self) -> u16 {
        u16::MAX
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.write_str(line)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        lock(&self.0).push_str(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Truncates a line so that one column stays free, and no terminal wraps it.
fn within(line: &str, columns: usize) -> String {
    truncate_str(line, columns.saturating_sub(1), "…").into_owned()
}

fn shortened(text: &str, columns: usize) -> String {
    truncate_str(text, columns, "…").into_owned()
}

impl fmt::Debug for Bars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bars")
            .field("bars", &self.bars.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use console::measure_text_width;
    use proptest::prelude::*;

    use super::*;

    fn event<'a>(id: u64, description: &'a str, position: u64, total: Option<u64>) -> ProgressEvent<'a> {
        let mut event = ProgressEvent::new(ProgressKind::Advanced, id, "trainer", description);
        event.position = position;
        event.total = total;
        event.elapsed = Duration::from_secs(12);
        event.rate = Some(36.21);
        event.samples_per_sec = Some(1158.7);
        event.eta = total.map(|_| Duration::from_secs(15));
        event
    }

    fn lines(bars: &mut Bars, columns: usize, now: Instant) -> String {
        bars.lines(Viewport { columns, rows: 24 }, now).join("\n")
    }

    #[test]
    fn lines_shows_bars_with_and_without_a_total() {
        let (mut bars, now) = (Bars::plain(), Instant::now());
        bars.show(&event(1, "Training", 450, Some(1000)), &["loss=0.4321".into()], now);
        let mut second = event(2, "Loading", 17, None);
        second.line = 1;
        bars.show(&second, &[], now);
        insta::assert_snapshot!(lines(&mut bars, 110, now), @r"
        Training  45% ━━━━━━━━━╸────────────  450/1000 [00:12<00:15, 36.2 it/s, 1.16k samples/s] loss=0.4321
        Loading 17 [00:12, 36.2 it/s, 1.16k samples/s]
        ");
    }

    #[test]
    fn control_characters_of_descriptions_and_names_are_escaped() {
        let (mut bars, now) = (Bars::plain(), Instant::now());
        let evil = event(1, "one\u{1b}[2J\u{2028}two", 5, Some(10));
        bars.show(&evil, &["a\u{1b}[2J\u{9b}1A\u{85}\u{2029}=1".to_owned()], now);
        let line = lines(&mut bars, 130, now);
        assert!(line.starts_with(r"one\x1b[2J\u{2028}two  50%"), "{line}");
        assert!(line.ends_with(r"a\x1b[2J\u{9b}1A\u{85}\u{2029}=1"), "{line}");
    }

    #[test]
    fn narrow_bars_leave_out_the_least_important_parts_first() {
        let (mut bars, now) = (Bars::plain(), Instant::now());
        let newest = ["loss=0.4321".to_owned(), "lr=1.000e-4".to_owned()];
        bars.show(&event(1, "Training", 450, Some(1000)), &newest, now);
        let all: Vec<String> = [130, 100, 90, 80, 70, 60, 50, 40, 30, 20]
            .map(|columns| lines(&mut bars, columns, now))
            .into();
        insta::assert_snapshot!(all.join("\n"), @r"
        Training  45% ━━━━━━━━━━━╸──────────────  450/1000 [00:12<00:15, 36.2 it/s, 1.16k samples/s] loss=0.4321 lr=1.000e-4
        Training  45% ━━━━━━━━━╸──────────  450/1000 [00:12<00:15, 36.2 it/s, 1.16k samples/s] loss=0.4321
        Training  45% ━━━━━━━━╸─────────  450/1000 [00:12<00:15, 36.2 it/s] loss=0.4321
        Training  45% ━━━━━━━╸────────  450/1000 [00:12<00:15, 36.2 it/s] loss=0.4321
        Training  45% ━━━━━━╸───────  450/1000 [00:12<00:15, 36.2 it/s]
        Training  45% ━━━━━╸──────  450/1000 [00:12<00:15]
        Training  45% ━━━━╸─────  450/1000 [00:12<00:15]
        Training  45%  450/1000 [00:12<00:15]
        Training  45%  450/1000
        Training  45%
        ");
    }

    #[test]
    fn the_elapsed_time_of_a_bar_continues_between_updates() {
        let (mut bars, now) = (Bars::plain(), Instant::now());
        bars.show(&event(1, "Training", 450, Some(1000)), &[], now);
        let later = lines(&mut bars, 100, now + Duration::from_secs(9));
        assert!(later.contains("[00:21<00:06,"), "{later}");
        let much_later = lines(&mut bars, 100, now + Duration::from_secs(60));
        assert!(much_later.contains("[01:12<00:00,"), "{much_later}");
    }

    #[test]
    fn the_bar_of_an_ended_progress_stands_still() {
        let (mut bars, now) = (Bars::plain(), Instant::now());
        let mut ended = event(1, "Training", 1000, Some(1000));
        (ended.kind, ended.eta) = (ProgressKind::Finished, None);
        bars.show(&ended, &[], now);
        let later = lines(&mut bars, 100, now + Duration::from_secs(9));
        assert!(later.contains("100% ") && later.contains("[00:12, "), "{later}");
    }

    #[test]
    fn bars_are_sorted_by_their_lines() {
        let (mut bars, now) = (Bars::plain(), Instant::now());
        for (id, line, name) in [(1, 5, "five"), (2, 0, "zero"), (3, 2, "two")] {
            let mut event = event(id, name, 1, None);
            event.line = line;
            bars.show(&event, &[], now);
        }
        let shown = lines(&mut bars, 80, now);
        let first_words: Vec<_> = shown.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(first_words, ["zero", "two", "five"]);
    }

    #[test]
    fn bars_without_room_are_counted() {
        let (mut bars, now) = (Bars::plain(), Instant::now());
        for id in 0..10 {
            bars.show(&event(id, "work", 1, Some(2)), &[], now);
        }
        let full = lines(&mut bars, 80, now);
        assert_eq!(full.lines().count(), VISIBLE);
        assert!(full.ends_with("… and 4 more"), "{full}");
        let low = bars.lines(Viewport { columns: 80, rows: 5 }, now);
        assert_eq!((low.len(), low[2].as_str()), (3, "… and 8 more"));
        for id in 0..4 {
            bars.finish(id);
        }
        let fewer = lines(&mut bars, 80, now);
        assert!(fewer.lines().count() == 6 && !fewer.contains("more"), "{fewer}");
    }

    proptest! {
        #[test]
        fn no_line_is_as_wide_as_the_terminal(
            columns in 2_usize..300,
            description in "\\PC{0,60}",
            newest in prop::collection::vec("[a-z]{1,12}=[0-9.]{1,9}", 0..5),
            position: u64,
            total: Option<u64>,
            color: bool,
        ) {
            let (mut bars, now) = (if color { Bars::colored() } else { Bars::plain() }, Instant::now());
            bars.show(&event(1, &description, position, total.filter(|total| *total > 0)), &newest, now);
            let lines = bars.lines(Viewport { columns, rows: 24 }, now);
            prop_assert_eq!(lines.len(), 1);
            prop_assert!(measure_text_width(&lines[0]) < columns, "{}", lines[0]);
            prop_assert!(!lines[0].contains(['\n', '\r']));
        }
    }
}
