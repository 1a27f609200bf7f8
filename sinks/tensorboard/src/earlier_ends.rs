//! The ends of earlier attempts: TensorBoard shows the first end that a run has, so a run that goes
//! on must have none.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use crate::event::{EventBuffer, SessionStatus};
use crate::file_name::{EventFileName, files_in};
use crate::reader::{EventContent, EventReader, TagContent};

/// Removes the end of each earlier attempt of a run in a folder. A file that cannot be read or
/// changed stays as it is.
pub(crate) fn remove(folder: &Path, own: &EventFileName) {
    let is_earlier = |name: &EventFileName| name.is_of_run(own) && name.attempt() < own.attempt();
    for name in files_in(folder).into_iter().filter(is_earlier) {
        let _ = remove_end(&folder.join(name.to_string()));
    }
}

/// Cuts the last record off a file if it is an end. The process that has written the file is gone.
fn remove_end(path: &Path) -> io::Result<()> {
    // Any end has the same length.
    let mut end = EventBuffer::default();
    end.end_session(0.0, SessionStatus::Success);
    let mut file = logcore::files::append_no_follow(path)?;
    let length = file.metadata()?.len();
    let Some(start) = length.checked_sub(end.bytes().len() as u64) else {
        return Ok(());
    };
    file.seek(SeekFrom::Start(start))?;
    let mut last = Vec::new();
    (&file).take(end.bytes().len() as u64).read_to_end(&mut last)?;
    let event = EventReader::new(&*last).next_event();
    let is_end = event.is_ok_and(|event| {
        event.is_some_and(|event| match event.content {
            EventContent::Values(values) => values.iter().any(|value| matches!(value.value, TagContent::End { .. })),
            _ => false,
        })
    });
    match is_end {
        true => file.set_len(start),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_the_ends_of_earlier_attempts_go() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventBuffer::default();
        events.begin_file(1.0);
        let rest = events.bytes().len();
        events.end_session(5.0, SessionStatus::Failure);
        let path = |run, attempt| {
            let name = EventFileName::new(run, attempt, 7);
            folder.path().join(name.to_string())
        };
        let all = [path("a", 1), path("a", 2), path("b", 1)];
        all.iter().for_each(|path| fs::write(path, events.bytes()).unwrap());
        for _ in 0..2 {
            remove(folder.path(), &EventFileName::new("a", 2, 8));
            let lengths = all.each_ref().map(|path| fs::metadata(path).unwrap().len() as usize);
            assert_eq!(lengths, [rest, events.bytes().len(), events.bytes().len()]);
        }
    }
}
