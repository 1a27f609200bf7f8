//! The slots of the ranks: this rank writes its own, and rank 0 finds ranks that are slower.

use std::time::{Duration, Instant, SystemTime};

use logcore::AlertLevel;
use logcore_health::agreement::agreed_step;
use logcore_health::event::HealthKind;
use logcore_health::skew::{SkewChange, SkewWatch, StepGauge, first_stopped};
use logcore_health::slot::{RankPhase, RankState, SlotFolder, mark_wait};
use logcore_health::threads::find_kernel_wait;
use logcore_pipeline::print_notice;

use super::journal::Journal;
use super::vigil::Look;
use crate::run::Run;

/// Ticks between two looks at the slots of the other ranks.
const LOOK_TICKS: u32 = 10;

/// Time after which a process without other ranks renews the slot of a long phase, far below
/// [the age](RankState::is_fresh) that readers allow for.
const RENEWAL: Duration = Duration::from_secs(20);

/// The slots of a run: the one of this rank, and those of the others.
pub(super) struct RankWatch {
    folder: SlotFolder,
    own: RankState,
    gauge: StepGauge,
    world_size: u32,
    /// Only rank 0 looks for slower ranks.
    skew: Option<SkewWatch>,
    ticks: u32,
    looked: Instant,
    /// Time since the last step, without that in phases that are long by nature.
    since_step: Duration,
    /// Time that the process has waited for data, up to the last step.
    data: Duration,
    /// Time that the process has waited for other ranks, up to the last step.
    exchange: Duration,
    /// The mark of what the thread that trains waited for at the last look.
    last_wait: u16,
    /// The phase in the slot, and the time of the last write.
    written: Option<(RankPhase, Instant)>,
}

impl RankWatch {
    pub(super) fn new(run: &Run) -> Self {
        let world_size = run.world_size().unwrap_or(1);
        Self {
            folder: SlotFolder::new(run.dir()),
            own: RankState::new(run.rank(), run.info().attempt()),
            world_size,
            gauge: StepGauge::default(),
            skew: (world_size > 1 && run.is_first_rank()).then(SkewWatch::new),
            ticks: 0,
            looked: Instant::now(),
            since_step: Duration::ZERO,
            data: Duration::ZERO,
            exchange: Duration::ZERO,
            last_wait: 0,
            written: None,
        }
    }

    pub(super) fn look(&mut self, look: &Look<'_>, journal: &mut Journal) {
        if !look.run.is_open() {
            return;
        }
        self.measure(look);
        if self.has_news(look) {
            self.write();
        }
        self.find_slower(look, journal);
    }

    /// Returns the step at which all ranks can stop; `None` if no rank has a step.
    pub(super) fn agreed_step(&self) -> Option<u64> {
        agreed_step(&self.read())
    }

    /// Returns `true` if each rank has a slot, with its pace if it has a step. This one is at the
    /// step `own`.
    pub(super) fn know_pace(&self, own: Option<u64>) -> bool {
        let states = self.read();
        let knows = |step: Option<u64>, pace: f32| step.is_none() || pace > 0.0;
        // A rank that has ended goes no further.
        let has_known = |state: &RankState| state.phase == RankPhase::Ended || knows(state.step, state.pace);
        states.len() as u64 >= u64::from(self.world_size) && states.iter().all(has_known) && knows(own, self.own.pace)
    }

    /// Returns the steps that this rank makes in a second; 0 if unknown.
    pub(super) fn own_pace(&self) -> f32 {
        self.own.pace
    }

    /// Returns the rank that stopped first, if that can be known.
    pub(super) fn first_stopped(&self) -> Option<RankState> {
        first_stopped(&self.read()).copied()
    }

    /// Writes the last slot of this attempt. A process without other ranks takes its slot away.
    pub(super) fn end(&mut self, step: Option<u64>) {
        if self.is_alone() {
            // A slot that stays is one of an attempt that was killed.
            let _ = self.folder.remove();
        } else {
            self.own.phase = RankPhase::Ended;
            self.own.step = self.own.step.max(step);
            self.write();
        }
    }

    fn is_alone(&self) -> bool {
        self.world_size < 2
    }

    /// Returns the states of all ranks, of this one as it is now.
    fn read(&self) -> Vec<RankState> {
        let mut states = self.folder.read_all(self.world_size, self.own.attempt);
        states.retain(|state| state.rank != self.own.rank);
        states.push(self.own);
        states
    }

    /// Returns `true` if the slot is due. That of a process without other ranks is for
    /// `logcore watch` alone, and tells movements and phases; a program that does nothing writes
    /// none.
    fn has_news(&self, look: &Look<'_>) -> bool {
        let is_long = look.reading.long.is_some();
        let is_new = match self.written {
            None => is_long,
            Some((phase, at)) => phase != self.own.phase || is_long && at.elapsed() >= RENEWAL,
        };
        !self.is_alone() || look.has_moved || is_new
    }

    /// Brings the own slot up to date.
    fn measure(&mut self, look: &Look<'_>) {
        let elapsed = self.looked.elapsed();
        self.looked = Instant::now();
        if look.reading.pauses_steps {
            // Neither this time nor the waits of an evaluation are those of a step.
            (self.data, self.exchange) = (look.reading.data, look.reading.exchange);
        } else {
            self.since_step += elapsed;
        }
        match (self.own.step, look.step) {
            (Some(before), Some(now)) if now > before => {
                let waited = look.reading.data.saturating_sub(self.data);
                let exchanged = look.reading.exchange.saturating_sub(self.exchange);
                self.gauge.note(now - before, self.since_step, waited, exchanged);
                self.gauge.fill(&mut self.own);
            }
            // The time before the first step is none of a step.
            (None, Some(_)) => {}
            _ => return self.note_state(look),
        }
        (self.since_step, self.data, self.exchange) = (Duration::ZERO, look.reading.data, look.reading.exchange);
        self.note_state(look);
    }

    fn note_state(&mut self, look: &Look<'_>) {
        self.own.step = look.step;
        self.own.time = SystemTime::now();
        let is_asked = !look.has_moved && !self.is_alone();
        let wait = if is_asked { read_wait(look.run) } else { 0 };
        // A thread that waits for several things in turn is on its way.
        self.own.wait = if wait == self.last_wait { wait } else { 0 };
        self.last_wait = wait;
        if look.has_moved {
            self.own.moved = self.own.time;
        }
        // A checkpoint that another thread writes is the phase only while the steps may wait for
        // it.
        let may_wait = look.reading.pauses_steps || !look.has_moved;
        let long = look.reading.long.as_ref().filter(|_| may_wait);
        self.own.phase = match long.unwrap_or(&look.reading.now).as_str() {
            "startup" => RankPhase::Startup,
            "step" => RankPhase::Step,
            "data" => RankPhase::Data,
            "eval" => RankPhase::Eval,
            "checkpoint" => RankPhase::Checkpoint,
            "idle" => RankPhase::Idle,
            _ => RankPhase::Other,
        };
    }

    fn write(&mut self) {
        self.written = Some((self.own.phase, Instant::now()));
        if let Err(error) = self.folder.write(&self.own) {
            let dir = self.folder.run_dir().display();
            let reader = match self.is_alone() {
                true => "`logcore watch` does",
                false => "the other ranks do",
            };
            print_notice(
                &format!("slot of the rank in {dir}"),
                &format!(
                    "cannot write the slot ranks/{} in {dir}: {error}. Until the folder ranks can be written, {reader} \
                     not see how far the process is",
                    self.own.rank
                ),
            );
        }
    }

    /// Looks for a rank that is slower than the others.
    fn find_slower(&mut self, look: &Look<'_>, journal: &mut Journal) {
        self.ticks += 1;
        let Some(skew) = self.skew.as_mut().filter(|_| self.ticks.is_multiple_of(LOOK_TICKS)) else {
            return;
        };
        let states = self.folder.read_all(self.world_size, self.own.attempt);
        for change in skew.observe(&states, SystemTime::now()) {
            let (level, text) = match change {
                SkewChange::Began(skew) => (AlertLevel::Warn, skew.to_string()),
                SkewChange::Ended(skew) => {
                    let text = format!(
                        "rank {} is as fast as the others again, after {} steps",
                        skew.rank, skew.steps
                    );
                    (AlertLevel::Info, text)
                }
                _ => continue,
            };
            let event = journal.event(HealthKind::Skew, level, text, look.step);
            journal.tell(look.loggers, event);
        }
    }
}

/// Returns the mark of what the thread that trains waits for in the kernel; 0 if for nothing, or if
/// this cannot be read.
fn read_wait(run: &Run) -> u16 {
    let wait = run.ledger().updater_tid().and_then(find_kernel_wait);
    wait.map_or(0, |function| mark_wait(&function))
}
