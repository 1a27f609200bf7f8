//! One logger for a training run: levelled text, progress, metrics, memory, config.
