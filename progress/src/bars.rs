use std::io;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use logcore::ProgressEvent;

use crate::text;

/// More bars than this are counted, not shown.
const VISIBLE: usize = 7;
/// Below this many columns a bar has no room for its bar.
const NARROW: u16 = 60;

/// The bars at the foot of a terminal. Only the owner of the terminal draws them.
pub struct Bars {
    multi: MultiProgress,
    columns: Box<dyn Fn() -> u16 + Send>,
    /// Sorted by slot, then by age.
    bars: Vec<Bar>,
    /// Says how many are not shown.
    more: Option<ProgressBar>,
}

struct Bar {
    id: u64,
    slot: u32,
    state: Option<ProgressBar>,
    message: String,
    position: u64,
    total: Option<u64>,
    description: String,
    /// What the style was made for.
    styled: Option<(u16, bool)>,
}

impl Bars {
    /// Bars on `target`, whose width `columns` tells.
    pub fn new(target: ProgressDrawTarget, columns: impl Fn() -> u16 + Send + 'static) -> Self {
        Self {
            multi: MultiProgress::with_draw_target(target),
            columns: Box::new(columns),
            bars: Vec::new(),
            more: None,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bars.is_empty()
    }

    /// Shows the state of a progress, with `newest` (metrics, say) behind it.
    pub fn show(&mut self, event: &ProgressEvent<'_>, newest: &str) {
        let at = match self.bars.iter().position(|bar| bar.id == event.id) {
            Some(at) => at,
            None => self.insert(event),
        };
        let columns = (self.columns)();
        let bar = &mut self.bars[at];
        bar.position = event.position;
        bar.total = event.total;
        bar.message = format!("{} {newest}", text::details(event)).trim_end().to_owned();
        bar.draw(columns);
    }

    /// Takes a bar away.
    pub fn finish(&mut self, id: u64) {
        let Some(at) = self.bars.iter().position(|bar| bar.id == id) else {
            return;
        };
        let bar = self.bars.remove(at);
        if let Some(state) = bar.state {
            state.finish_and_clear();
            self.multi.remove(&state);
        }
        self.arrange();
    }

    /// Runs `write` while no bar is on the screen, so that what it writes stands above them.
    pub fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.multi.suspend(write)
    }

    /// Takes all bars away.
    ///
    /// # Errors
    ///
    /// If the terminal cannot be written to.
    pub fn clear(&mut self) -> io::Result<()> {
        self.bars.clear();
        self.more = None;
        self.multi.clear()
    }

    fn insert(&mut self, event: &ProgressEvent<'_>) -> usize {
        let at = self
            .bars
            .partition_point(|bar| (bar.slot, bar.id) < (event.slot, event.id));
        let bar = Bar {
            id: event.id,
            slot: event.slot,
            state: None,
            message: String::new(),
            position: 0,
            total: None,
            description: one_line(event.description),
            styled: None,
        };
        self.bars.insert(at, bar);
        self.arrange();
        at
    }

    /// Puts the first bars on the screen and counts the rest.
    fn arrange(&mut self) {
        let columns = (self.columns)();
        for (at, bar) in self.bars.iter_mut().enumerate() {
            match (&bar.state, at < VISIBLE) {
                (None, true) => {
                    bar.state = Some(self.multi.insert(at, ProgressBar::new_spinner()));
                    bar.styled = None;
                    bar.draw(columns);
                }
                (Some(state), false) => {
                    state.finish_and_clear();
                    self.multi.remove(state);
                    bar.state = None;
                }
                _ => {}
            }
        }
        if let Some(more) = self.more.take() {
            more.finish_and_clear();
            self.multi.remove(&more);
        }
        if let Some(hidden) = self.bars.len().checked_sub(VISIBLE).filter(|hidden| *hidden > 0) {
            let more = self.multi.add(ProgressBar::new_spinner());
            more.set_style(style("{wide_msg}"));
            more.set_message(format!("… and {hidden} more"));
            more.tick();
            self.more = Some(more);
        }
    }
}

impl Bar {
    fn draw(&mut self, columns: u16) {
        let Some(state) = &self.state else { return };
        let shape = (columns, self.total.is_some());
        if self.styled != Some(shape) {
            self.styled = Some(shape);
            state.set_style(match (self.total.is_some(), columns) {
                (false, _) => style("{prefix:.bold} {wide_msg}"),
                (true, ..NARROW) => style("{prefix:.bold} {percent:>3}% {wide_msg}"),
                (true, _) => style(&format!(
                    "{{prefix:.bold}} {{percent:>3}}% {{bar:{}.cyan/dim}} {{wide_msg}}",
                    (columns / 5).clamp(8, 30)
                )),
            });
            let room = usize::from(columns / 3).max(8);
            state.set_prefix(shortened(&self.description, room));
        }
        match self.total {
            Some(total) => state.set_length(total),
            None => state.unset_length(),
        }
        state.set_position(self.position.min(self.total.unwrap_or(u64::MAX)));
        state.set_message(self.message.clone());
        state.tick();
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are ours; one that could not be read would still leave a usable bar.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn shortened(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use indicatif::InMemoryTerm;
    use logcore::ProgressKind;

    use super::*;

    fn bars(columns: u16) -> (Bars, InMemoryTerm) {
        let term = InMemoryTerm::new(20, columns);
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(term.clone()), 255);
        (Bars::new(target, move || columns), term)
    }

    fn event(id: u64, description: &'static str, position: u64, total: Option<u64>) -> ProgressEvent<'static> {
        let mut event = ProgressEvent::new(ProgressKind::Advanced, id, "trainer", description);
        event.position = position;
        event.total = total;
        event.elapsed = Duration::from_secs(12);
        event.rate = Some(36.21);
        event.samples_per_sec = Some(1158.7);
        event.eta = total.map(|_| Duration::from_secs(15));
        event
    }

    /// What is on the screen once the limit on redraws has passed.
    fn screen(bars: &Bars, term: &InMemoryTerm) -> String {
        bars.suspend(|| {});
        term.contents()
    }

    #[test]
    fn a_bar_and_one_without_a_total() {
        let (mut bars, term) = bars(100);
        bars.show(&event(1, "Training", 450, Some(1000)), "loss=0.4321");
        let mut second = event(2, "Loading", 17, None);
        second.slot = 1;
        bars.show(&second, "");
        insta::assert_snapshot!(screen(&bars, &term), @r"
        Training  45% ━━━━━━━━━╸────────── 450/1000 [00:12<00:15, 36.2 it/s, 1.16k samples/s] loss=0.4321
        Loading 17 [00:12, 36.2 it/s, 1.16k samples/s]
        ");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for columns in [20, 40, 60, 80, 300] {
            let (mut bars, term) = bars(columns);
            bars.show(
                &event(1, "A description that is far too long for a small window", 5, Some(10)),
                "loss=0.4321",
            );
            let screen = screen(&bars, &term);
            assert_eq!(screen.lines().count(), 1, "{columns}: {screen}");
            assert!(screen.chars().count() <= usize::from(columns), "{columns}: {screen}");
        }
    }

    #[test]
    fn bars_stand_in_the_order_of_their_slots_and_lines_above_them() {
        let (mut bars, term) = bars(80);
        for (id, slot, name) in [(1, 5, "five"), (2, 0, "zero"), (3, 2, "two")] {
            let mut event = event(id, name, 1, None);
            event.slot = slot;
            bars.show(&event, "");
        }
        bars.suspend(|| indicatif::TermLike::write_line(&term, "a log line").unwrap());
        let first_words: Vec<String> = term
            .contents()
            .lines()
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect();
        assert_eq!(first_words, ["a", "zero", "two", "five"]);
    }

    #[test]
    fn a_bar_that_is_done_leaves_no_ghost() {
        let (mut bars, term) = bars(100);
        bars.show(&event(1, "Training", 10, Some(10)), "");
        bars.finish(1);
        assert_eq!(term.contents(), "");
        assert!(bars.is_empty());
    }

    #[test]
    fn many_bars_are_counted() {
        let (mut bars, term) = bars(80);
        for id in 0..10 {
            bars.show(&event(id, "work", 1, Some(2)), "");
        }
        let full = screen(&bars, &term);
        assert!(full.ends_with("… and 3 more"), "{full}");
        assert_eq!(full.lines().count(), 8);
        for id in 0..4 {
            bars.finish(id);
        }
        let fewer = screen(&bars, &term);
        assert_eq!(fewer.lines().count(), 6, "{fewer}");
        assert!(!fewer.contains("more"));
    }
}
