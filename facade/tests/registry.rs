//! The exact list of linked plugins, for every choice of features: a test fails if the linker drops
//! a registration.

use facade::logcore::registry;

#[test]
fn the_linked_sinks_are_those_of_the_features() {
    let expected: Vec<&str> = [
        ("console", cfg!(feature = "console")),
        ("file", cfg!(feature = "file")),
        ("jsonl", cfg!(feature = "jsonl")),
        ("kubeflow", cfg!(feature = "kubeflow")),
        ("memory", cfg!(feature = "memory")),
        ("mlflow", cfg!(feature = "mlflow")),
        ("otlp", cfg!(feature = "otlp")),
        ("tensorboard", cfg!(feature = "tensorboard")),
        ("wandb", cfg!(feature = "wandb")),
        ("webhook", cfg!(feature = "webhook")),
    ]
    .iter()
    .filter_map(|(name, on)| on.then_some(*name))
    .collect();
    assert_eq!(registry::sink_names().unwrap(), expected);
}

#[test]
fn the_linked_formatters_are_those_of_the_features() {
    let expected: &[&str] = match (cfg!(feature = "console"), cfg!(feature = "file")) {
        (true, _) => &["colored", "json", "logfmt", "plain"],
        (false, true) => &["json", "logfmt", "plain"],
        (false, false) => &[],
    };
    assert_eq!(registry::formatter_names().unwrap(), expected);
}

#[test]
fn the_linked_probes_are_those_of_the_features() {
    let expected: &[&str] = if cfg!(feature = "gpu") {
        &["gpu", "host", "system"]
    } else {
        &[]
    };
    assert_eq!(registry::probe_names().unwrap(), expected);
}

#[test]
fn the_page_of_a_run_needs_its_feature() {
    if cfg!(feature = "report") {
        return;
    }
    let config = facade::LogConfig {
        report: true,
        ..facade::LogConfig::default()
    };
    let error = facade::setup_logging(config).unwrap_err().to_string();
    assert!(error.contains("switch on the Cargo feature `report`"), "{error}");
}

#[test]
fn the_times_of_spans_need_their_feature() {
    if cfg!(feature = "tracing") {
        return;
    }
    let config = facade::LogConfig {
        span_metrics: vec!["forward".into()],
        ..facade::LogConfig::default()
    };
    let error = facade::setup_logging(config).unwrap_err().to_string();
    assert!(error.contains("switch on the Cargo feature `tracing`"), "{error}");
}

#[test]
fn an_error_about_an_unlinked_plugin_names_its_feature() {
    let is_on = |feature: &str| match feature {
        "console" => cfg!(feature = "console"),
        "file" => cfg!(feature = "file"),
        "jsonl" => cfg!(feature = "jsonl"),
        "kubeflow" => cfg!(feature = "kubeflow"),
        "memory" => cfg!(feature = "memory"),
        "mlflow" => cfg!(feature = "mlflow"),
        "otlp" => cfg!(feature = "otlp"),
        "tensorboard" => cfg!(feature = "tensorboard"),
        "gpu" => cfg!(feature = "gpu"),
        "wandb" => cfg!(feature = "wandb"),
        "webhook" => cfg!(feature = "webhook"),
        other => panic!("the facade has no feature `{other}`"),
    };
    let ours = registry::bundled_plugins();
    let linked = |role: &str| match role {
        "sink" => registry::sink_names(),
        "formatter" => registry::formatter_names(),
        _ => registry::probe_names(),
    };
    for role in ["sink", "formatter", "probe"] {
        for name in linked(role).unwrap() {
            assert!(
                ours.iter().any(|(kind, known, _)| (*kind, *known) == (role, name)),
                "the {role} `{name}` has no entry in the table of features"
            );
        }
    }
    for (role, name, feature) in ours {
        let is_linked = linked(role).unwrap().contains(&name);
        assert!(
            is_linked || !is_on(feature),
            "`{feature}` does not link the {role} `{name}`"
        );
        if is_linked {
            continue;
        }
        let mut config = facade::LogConfig {
            enable_wandb: name == "wandb",
            ..facade::LogConfig::default()
        };
        match role {
            "sink" => drop(config.sinks.insert(name.into(), serde_json::json!({}))),
            "probe" => drop(config.probes.insert(name.into(), serde_json::json!({}))),
            // Any linked sink that takes a formatter will do.
            _ if cfg!(feature = "file") => {
                drop(
                    config
                        .sinks
                        .insert("file".into(), serde_json::json!({"formatter": name})),
                );
            }
            _ => continue,
        }
        let error = facade::setup_logging(config).unwrap_err().to_string();
        assert!(error.contains(&format!("feature `{feature}`")), "{error}");
    }
}

#[cfg(not(feature = "wandb"))]
#[test]
fn an_error_about_an_unlinked_sink_names_its_feature() {
    let mut config = facade::LogConfig::default();
    config
        .sinks
        .insert("wandb".into(), serde_json::json!({"mode": "offline"}));
    config.enable_wandb = true;
    let error = facade::setup_logging(config).unwrap_err().to_string();
    assert!(error.starts_with("invalid enable_wandb = true"), "{error}");
    assert!(error.contains("feature `wandb`"), "{error}");
}
