//! Params and tags.

use logcore_delivery::DeliveryError;

use super::Uploader;
use crate::api::Batch;
use crate::batches::{describe_infinity, split_pairs};
use crate::documents::tag_of_param;
use crate::names::clean_name;
use crate::window::MetricPoint;

/// The two kinds of pairs of a name and a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PairKind {
    Param,
    Tag,
}

impl Uploader {
    /// Sends the params and tags that the server does not have.
    pub(super) fn send_documents(&mut self) -> Result<(), DeliveryError> {
        let mut params = Vec::new();
        let mut tags = Vec::new();
        for (name, value) in self.documents.params() {
            match self.remote.params.get(&name) {
                Some(known) if *known == value => {}
                // MLflow never changes a param.
                Some(_) => tags.push(tag_of_param(&name, &value)),
                None => params.push((name, value)),
            }
        }
        tags.extend(self.documents.tags(&self.plan.settings));
        tags.retain(|(name, value)| self.remote.tags.get(name) != Some(value));
        self.send_pairs(&params, PairKind::Param)?;
        self.send_pairs(&tags, PairKind::Tag)
    }

    /// Sends params or tags. A param that the server refuses becomes a tag.
    fn send_pairs(&mut self, pairs: &[(String, String)], kind: PairKind) -> Result<(), DeliveryError> {
        for batch in split_pairs(pairs) {
            self.send_batch_of_pairs(batch, kind)?;
        }
        Ok(())
    }

    fn send_batch_of_pairs(&mut self, pairs: &[(String, String)], kind: PairKind) -> Result<(), DeliveryError> {
        let batch = match kind {
            PairKind::Param => Batch {
                params: pairs,
                ..Batch::default()
            },
            PairKind::Tag => Batch {
                tags: pairs,
                ..Batch::default()
            },
        };
        let error = self.log_batch(batch)?;
        match (error, pairs) {
            (Some(error), [(name, value)]) => {
                let refused = pairs.iter().cloned();
                match kind {
                    PairKind::Param => {
                        self.remote.params.extend(refused);
                        return self.send_batch_of_pairs(&[tag_of_param(name, value)], PairKind::Tag);
                    }
                    PairKind::Tag => {
                        self.client
                            .control
                            .skip(&format!("the tag `{name}` is refused: {error}"));
                        self.remote.tags.extend(refused);
                    }
                }
            }
            (Some(_), pairs) => {
                let (first, second) = pairs.split_at(pairs.len() / 2);
                self.send_batch_of_pairs(first, kind)?;
                self.send_batch_of_pairs(second, kind)?;
            }
            (None, pairs) => match kind {
                PairKind::Param => self.remote.params.extend(pairs.iter().cloned()),
                PairKind::Tag => self.remote.tags.extend(pairs.iter().cloned()),
            },
        }
        Ok(())
    }

    /// Notes infinite values in tags, because MLflow has the greatest number instead.
    pub(super) fn tag_infinities(&mut self, points: &[(String, MetricPoint)]) -> Result<(), DeliveryError> {
        let mut tags = Vec::new();
        for (name, point) in points.iter().filter(|(_, point)| point.value.is_infinite()) {
            let tag = clean_name(&format!("logcore.infinite.{name}"));
            if !self.infinite.contains_key(&tag) && !self.remote.tags.contains_key(&tag) {
                let text = format!("{} at step {}", describe_infinity(point.value), point.step);
                self.infinite.insert(tag.clone(), text.clone());
                tags.push((tag, text));
            }
        }
        self.send_pairs(&tags, PairKind::Tag)
    }
}
