//! The step at which all ranks stop, and the lines about a request to stop.

use std::time::{Duration, Instant};

use logcore::{AlertLevel, StopReason};
use logcore_health::agreement::{self, StopAgreement};
use logcore_health::event::HealthKind;
use logcore_pipeline::print_notice;

use super::journal::Journal;
use super::rank_watch::RankWatch;
use super::vigil::Look;

/// Time for which the agreement waits until the pace of all ranks is known, in a run that has just
/// begun.
const MOST_WAIT: Duration = Duration::from_secs(4);

/// Follows a request to stop: the ranks agree on a step, and the journal has the reason.
#[derive(Default)]
pub(super) struct StopFollower {
    /// `true` once the request is in the journal.
    is_told: bool,
    /// The time since which the agreement waits for the pace of the ranks.
    waits_since: Option<Instant>,
}

impl StopFollower {
    pub(super) fn look(&mut self, look: &Look<'_>, ranks: &RankWatch, journal: &mut Journal) {
        let switch = look.run.stop();
        match switch.open_request() {
            Some(reason) => self.agree(look, reason, ranks, journal),
            None if switch.needs_agreement() && !self.is_told => self.follow(look, ranks, journal),
            None => {}
        }
        if !switch.needs_agreement()
            && !self.is_told
            && let Some(reason) = switch.reason()
        {
            let text = format!("the run is to stop, because of {reason}");
            // A signal has a line already, so that no logger speaks.
            let loggers = match reason {
                StopReason::Signal(_) => &[],
                _ => look.loggers,
            };
            self.tell(&Look { loggers, ..*look }, &text, journal);
        }
    }

    /// Notes a request that came at the very end.
    pub(super) fn end(&self, step: Option<u64>, journal: &mut Journal) {
        if let Some(reason) = journal.run.stop().heard_reason().filter(|_| !self.is_told) {
            let text = format!("the run has stopped, because of {reason}");
            let event = journal.event(HealthKind::Stop, AlertLevel::Warn, text, step);
            journal.append(event, None);
        }
    }

    /// Agrees with the other ranks on the step at which all stop.
    fn agree(&mut self, look: &Look<'_>, reason: StopReason, ranks: &RankWatch, journal: &mut Journal) {
        if !ranks.know_pace(look.step) && self.waits_since.get_or_insert_with(Instant::now).elapsed() < MOST_WAIT {
            // The step would be one that the fastest ranks have behind them when they hear of it.
            return;
        }
        let (dir, attempt, rank) = (look.run.dir(), look.run.info().attempt(), look.run.rank());
        let proposal = StopAgreement::new(rank, ranks.agreed_step(), reason.clone());
        match agreement::propose(dir, attempt, &proposal) {
            Ok(agreed) => self.apply(look, &agreed, ranks, journal),
            Err(error) => {
                let text = format!(
                    "rank {rank} stops at once, because of {reason}: cannot agree with the other ranks: {error}"
                );
                look.run.stop().stop_from(0, reason);
                self.tell(look, &text, journal);
            }
        }
    }

    /// Follows the request of another rank, if there is one.
    fn follow(&mut self, look: &Look<'_>, ranks: &RankWatch, journal: &mut Journal) {
        match agreement::read(look.run.dir(), look.run.info().attempt()) {
            Ok(Some(agreed)) => self.apply(look, &agreed, ranks, journal),
            Ok(None) => {}
            Err(error) => {
                print_notice(
                    &format!("stop agreement {}", look.run.dir().display()),
                    &format!("cannot read at which step the ranks stop: {error}"),
                );
            }
        }
    }

    fn apply(&mut self, look: &Look<'_>, agreed: &StopAgreement, ranks: &RankWatch, journal: &mut Journal) {
        let (rank, reason) = (look.run.rank(), &agreed.reason);
        let is_too_far = agreed.is_too_far(look.step, ranks.own_pace(), look.run.stop_times().grace());
        let from = match (agreed.step, look.step) {
            (Some(step), own) if agreed.can_keep(own) && !is_too_far => step,
            _ => 0,
        };
        let text = match (agreed.step, look.step) {
            (Some(step), _) if from > 0 => {
                format!(
                    "all ranks are to stop at step {step}, because of {reason}, as rank {} asks",
                    agreed.rank
                )
            }
            (Some(step), Some(own)) => {
                let cause = if is_too_far {
                    "and would come there too late"
                } else {
                    "already"
                };
                format!(
                    "rank {rank} is to stop at once, because of {reason}, and not as agreed at step {step}: it is at step {own} {cause}"
                )
            }
            _ => format!("rank {rank} is to stop at once, because of {reason}: it has no step to agree on"),
        };
        look.run.stop().stop_from(from, reason.clone());
        self.tell(look, &text, journal);
    }

    fn tell(&mut self, look: &Look<'_>, text: &str, journal: &mut Journal) {
        self.is_told = true;
        let event = journal.event(HealthKind::Stop, AlertLevel::Warn, text, look.step);
        journal.tell(look.loggers, event);
    }
}
