//! Events and ranks as JSON for the page.

use logcore::epoch_seconds;
use logcore_health::event::Event;
use logcore_health::slot::RankState;
use serde_json::{Value, json};

use crate::StoredRun;
use crate::report::page::escape;
use crate::report::text_lines::clip;

/// Most events of a run that the page has: the newest.
const MAX_EVENTS: usize = 500;
/// Most ranks of a run whose states the page has: the lowest.
pub(super) const MAX_STATES: u32 = 1024;
/// Most bytes of the events of a run in the page of a server.
pub(super) const MAX_EVENT_BYTES: usize = 500_000;
/// Most bytes of the text of an event, and of each name in the event.
const MAX_TEXT: usize = 2000;
const MAX_NAME: usize = 250;

/// Returns the newest events, the oldest of them first, with at most `room` bytes when they are
/// escaped.
pub(super) fn events_for_page(events: &[Event], room: usize) -> Vec<Value> {
    let mut left = room;
    let mut kept = Vec::new();
    for event in events.iter().rev().take(MAX_EVENTS) {
        let event = event_for_page(event);
        let length = escape(&event.to_string()).len() + 1;
        if length > left {
            break;
        }
        left -= length;
        kept.push(event);
    }
    kept.reverse();
    kept
}

/// Returns what the page shows of an event, under the names that `events.jsonl` has.
fn event_for_page(event: &Event) -> Value {
    let mut shown = json!({
        "time": event.time,
        "step": event.step,
        "kind": event.kind,
        "level": event.level.name().to_ascii_lowercase(),
        "rank": event.rank,
        "text": clip(&event.text, MAX_TEXT),
    });
    for (name, value) in [("metric", &event.metric), ("incident", &event.incident)] {
        if let Some(value) = value {
            shown[name] = clip(value, MAX_NAME).into();
        }
    }
    shown
}

/// Returns the states of the lowest ranks of a run. A number that is not known is null.
pub(super) fn ranks_for_page(run: &StoredRun) -> Vec<Value> {
    run.lowest_ranks(MAX_STATES).iter().map(rank_for_page).collect()
}

fn rank_for_page(state: &RankState) -> Value {
    let seconds = Some(state.step_seconds).filter(|seconds| *seconds > 0.0);
    json!({
        "rank": state.rank,
        "step": state.step,
        "step_seconds": seconds,
        "data_share": seconds.map(|_| state.data_share),
        "phase": state.phase.name(),
        "time": epoch_seconds(state.time),
    })
}

#[cfg(test)]
mod tests {
    use logcore::AlertLevel;
    use logcore_health::event::HealthKind;

    use super::*;

    fn event(text: impl Into<String>) -> Event {
        Event::new(HealthKind::Stall, AlertLevel::Error, text)
    }

    #[test]
    fn the_newest_events_are_kept_within_the_room() {
        let events: Vec<Event> = (0..600).map(|number| event(number.to_string())).collect();
        let kept = events_for_page(&events, usize::MAX);
        assert_eq!(
            (kept.len(), &kept[0]["text"], &kept[499]["text"]),
            (500, &"100".into(), &"599".into())
        );
        let some = events_for_page(&events, 1000);
        assert!((2..20).contains(&some.len()) && some.last() == kept.last(), "{some:?}");
        assert!(escape(&Value::from(some).to_string()).len() <= 1000 + 1);
        assert_eq!(events_for_page(&events, 10), Vec::<Value>::new());
    }

    #[test]
    fn hostile_texts_are_clipped_and_counted_as_they_are_escaped() {
        let mut hostile = event("<".repeat(60_000));
        hostile.metric = Some("<".repeat(60_000));
        let events = vec![hostile; 500];
        let kept = events_for_page(&events, MAX_EVENT_BYTES);
        assert!(kept.len() > 20, "{}", kept.len());
        assert!(escape(&Value::from(kept).to_string()).len() <= MAX_EVENT_BYTES + 1);
    }

    #[test]
    fn a_rank_says_only_what_it_knows() {
        let mut state = RankState::new(3, 1);
        let shown = rank_for_page(&state);
        assert!(shown["step"].is_null() && shown["step_seconds"].is_null() && shown["data_share"].is_null());
        (state.step, state.step_seconds, state.data_share) = (Some(7), 0.5, 0.25);
        let shown = rank_for_page(&state);
        assert_eq!(
            (&shown["step"], &shown["step_seconds"], &shown["data_share"]),
            (&7.into(), &0.5.into(), &0.25.into())
        );
        assert_eq!(shown["phase"], "startup");
    }
}
