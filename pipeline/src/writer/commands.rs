//! Executes the commands of callers, and keeps the answers until a checkpoint contains their
//! effects.

use super::logger_set::{LoggerSet, NewLogger};
use crate::caller::command::{CloseRequest, ClosedAccounts, Command};

/// Executes commands. Callers get their answers when a checkpoint contains the effects of their
/// commands.
#[derive(Default)]
pub(super) struct CommandExecutor {
    answers: Vec<Box<dyn FnOnce() + Send>>,
}

impl CommandExecutor {
    /// Executes a command. Returns a request to close, which the writer executes when everything is
    /// delivered.
    pub(super) fn execute(&mut self, command: Command, loggers: &mut LoggerSet) -> Option<CloseRequest> {
        loggers.write_repeats();
        match command {
            Command::WriteRepeats => {}
            Command::Open {
                id,
                name,
                propagate,
                folder,
                sinks,
                counters,
                deadline,
                reply,
            } => {
                let new = NewLogger {
                    name,
                    propagate,
                    folder,
                    counters,
                    sinks,
                };
                loggers.open(id, new, deadline);
                self.answer(move || reply.send(()));
            }
            Command::SetLevel { id, sink, level } => loggers.set_level(id, &sink, level),
            Command::Share(named) => loggers.share(named),
            Command::Flush { id, deadline, reply } => {
                let flushed = loggers.flush(id, deadline);
                self.answer(move || reply.send(flushed));
            }
            Command::Finish {
                id,
                outcome,
                deadline,
                reply,
            } => {
                loggers.flush_shared_sinks(deadline);
                let accounts = loggers.finish(id, &outcome, deadline);
                self.answer(move || reply.send(accounts));
            }
            Command::FinishShared { end, deadline, reply } => {
                let accounts = loggers.end_shared_sinks(Some(end), deadline);
                self.answer(move || reply.send(accounts));
            }
            Command::EndRemoteSinks {
                id,
                outcome,
                deadline,
                reply,
            } => {
                let accounts = loggers.end_remote_sinks(id, &outcome, deadline);
                self.answer(move || reply.send(accounts));
            }
            Command::Close(request) => return Some(request),
        }
        None
    }

    /// Ends all loggers of the request and all shared sinks.
    pub(super) fn close(&mut self, request: CloseRequest, loggers: &mut LoggerSet) {
        let CloseRequest {
            loggers: ending,
            deadline,
            reply,
        } = request;
        let worst = ending
            .iter()
            .map(|(_, outcome)| &outcome.end)
            .max_by_key(|end| end.exit_code);
        let worst = worst.cloned();
        // Every accepted call is delivered, and no frame records that.
        loggers.changes.add_for_checkpoint();
        loggers.write_repeats();
        let accounts = ClosedAccounts {
            loggers: ending
                .into_iter()
                .map(|(id, outcome)| loggers.finish(id, &outcome, deadline))
                .collect(),
            shared_sinks: loggers.end_shared_sinks(worst, deadline),
        };
        self.answer(move || reply.send(accounts));
    }

    /// Returns `true` if a caller waits for an answer.
    pub(super) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Sends the answers.
    pub(super) fn send_answers(&mut self) {
        for answer in self.answers.drain(..) {
            answer();
        }
    }

    fn answer(&mut self, answer: impl FnOnce() + Send + 'static) {
        self.answers.push(Box::new(answer));
    }
}
