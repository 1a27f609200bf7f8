//! Media values: encoded and written on the thread of the caller, described to the sinks through
//! the ring.

use std::path::Path;

use logcore::log::Level;

use crate::logger::inner::LoggerInner;

#[cfg(feature = "media")]
pub(crate) use self::values::{log_media, save_file};

/// Skips a value, because the feature `media` is off.
#[cfg(not(feature = "media"))]
pub(crate) fn log_media<M>(logger: &LoggerInner, call: &str, key: &str, _: M, _: Option<u64>) {
    report_skipped(logger, call, key, &"the feature `media` of `logcore-facade` is off");
}

/// Skips a file, because the feature `media` is off.
#[cfg(not(feature = "media"))]
pub(crate) fn save_file(logger: &LoggerInner, path: &Path) -> bool {
    let path = path.display().to_string();
    report_skipped(
        logger,
        "save_file",
        &path,
        &"the feature `media` of `logcore-facade` is off",
    );
    false
}

fn report_skipped(logger: &LoggerInner, call: &str, what: &str, reason: &dyn std::fmt::Display) {
    logger.log_message(Level::Warn, format_args!("{call} of `{what}` is left out: {reason}"));
}

#[cfg(feature = "media")]
mod values {
    use std::path::PathBuf;

    use logcore::{
        EncodedMedia, Media, MediaContent, MediaDescription, MediaError, MediaFile, StagedMedia, is_logging_suppressed,
        serde_json,
    };
    #[cfg(feature = "wandb")]
    use logcore_wandb::{PreparedValue, RunHandle};

    #[cfg(feature = "wandb")]
    use super::Level;
    use super::{LoggerInner, Path, report_skipped};
    use crate::process::registry;

    /// The most bytes of a description, which passes the ring as one frame.
    const MOST_DESCRIPTION: usize = 1 << 20;
    /// The most bytes of a key, which becomes a path.
    const MOST_KEY: usize = 1024;

    /// Logs a value at a step; `None` is the current step. A value that cannot be logged costs a
    /// warning.
    pub(crate) fn log_media(logger: &LoggerInner, call: &str, key: &str, media: impl Media, step: Option<u64>) {
        if !is_logging_suppressed()
            && logger.admits_call()
            && let Err(error) = try_log_media(logger, call, key, media, step)
        {
            report_skipped(logger, call, shortened(key), &error);
        }
    }

    /// Copies a file into the folder of the run, at the current step. Returns `true` if the copy is
    /// there.
    pub(crate) fn save_file(logger: &LoggerInner, path: &Path) -> bool {
        if is_logging_suppressed() || !logger.admits_call() {
            return false;
        }
        match try_save_file(logger, path) {
            Ok(()) => true,
            Err(error) => {
                report_skipped(logger, "save_file", &path.display().to_string(), &error);
                false
            }
        }
    }

    #[cfg_attr(
        not(feature = "wandb"),
        expect(unused_variables, reason = "only the remarks of W&B name the call")
    )]
    fn try_log_media(
        logger: &LoggerInner,
        call: &str,
        key: &str,
        media: impl Media,
        step: Option<u64>,
    ) -> Result<(), MediaError> {
        check_key(key)?;
        let mut media = EncodedMedia::of(media)?;
        media.caption = media.caption.map(|caption| logger.redact(&caption));
        let run = run_dir(logger)?;
        let write = |file: &logcore::EncodedFile| StagedMedia::write(&run, &file.bytes);
        let staged = media.file.as_ref().map(write).transpose()?;
        #[cfg(feature = "wandb")]
        let wandb = prepare_for_wandb(logger, call, key, &media, staged.as_ref());
        let suffix = media.file.as_ref().map_or("", |file| file.suffix);
        // Encoding an image takes long. The step is chosen when the image is ready, so that newer
        // values do not overtake it.
        logger.metrics().at_step(step, |step| {
            let file = staged.map(|staged| staged.persist(&media.content, key, step, suffix));
            send(logger, key, step, media.caption, file.transpose()?, media.content)?;
            #[cfg(feature = "wandb")]
            if let Some(value) = wandb {
                logger.send_to_sink("wandb", &value.message(step)?);
            }
            Ok(())
        })
    }

    /// Gives the logger's W&B run, if it has one, the file of a value. The other sinks get the
    /// value even if W&B cannot.
    #[cfg(feature = "wandb")]
    fn prepare_for_wandb(
        logger: &LoggerInner,
        call: &str,
        key: &str,
        media: &EncodedMedia,
        staged: Option<&StagedMedia>,
    ) -> Option<PreparedValue> {
        match RunHandle::of(logger.name())?.prepare(key, media, staged) {
            Ok(value) => {
                if let Some(remark) = value.remark() {
                    logger.log_message(Level::Warn, format_args!("wandb: {call} of `{key}`: {remark}"));
                }
                Some(value)
            }
            Err(error) => {
                report_skipped(logger, &format!("wandb: {call}"), key, &error);
                None
            }
        }
    }

    fn try_save_file(logger: &LoggerInner, path: &Path) -> Result<(), MediaError> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.ok_or_else(|| MediaError::Malformed("the path does not name a file".to_owned()))?;
        let suffix = Path::new(&name).extension().map_or_else(String::new, |suffix| {
            let plain = suffix.to_string_lossy();
            match plain.len() <= 16 && plain.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                true => format!(".{plain}"),
                false => String::new(),
            }
        });
        let stem = name.strip_suffix(&suffix).unwrap_or(&name);
        let staged = StagedMedia::copy(&run_dir(logger)?, path)?;
        logger.metrics().at_step(None, |step| {
            let file = staged.persist(&MediaContent::File, stem, step, &suffix)?;
            send(logger, &name, step, None, Some(file), MediaContent::File)
        })
    }

    /// Describes a value to the sinks.
    fn send(
        logger: &LoggerInner,
        key: &str,
        step: u64,
        caption: Option<String>,
        file: Option<MediaFile>,
        content: MediaContent,
    ) -> Result<(), MediaError> {
        let mut description = MediaDescription::new(key, step, content);
        (description.caption, description.file) = (caption, file);
        let json = serde_json::to_string(&description).map_err(|error| MediaError::Malformed(error.to_string()))?;
        if json.len() > MOST_DESCRIPTION {
            let text = format!("its caption is too long; key and caption have at most {MOST_DESCRIPTION} bytes");
            return Err(MediaError::Malformed(text));
        }
        logger.producer().media(&json);
        Ok(())
    }

    fn check_key(key: &str) -> Result<(), MediaError> {
        match key.len() {
            0 => Err(MediaError::Malformed("its key is empty".to_owned())),
            1..=MOST_KEY => Ok(()),
            length => {
                let text = format!("its key has {length} bytes; use at most {MOST_KEY}");
                Err(MediaError::Malformed(text))
            }
        }
    }

    /// Returns the beginning of a key, for messages.
    fn shortened(key: &str) -> &str {
        let end = (0..=key.len().min(80)).rev().find(|end| key.is_char_boundary(*end));
        &key[..end.unwrap_or(0)]
    }

    /// Returns the folder of the logger's run.
    fn run_dir(logger: &LoggerInner) -> Result<PathBuf, MediaError> {
        match logger.settings().run {
            Some(_) => Ok(registry::run_dir(logger)),
            None => Err(MediaError::NoRun),
        }
    }
}
