//! The resource: the process and the run that send.

use std::collections::BTreeMap;
use std::path::Path;

use logcore::{BuildContext, files};
use serde_json::Value;

use crate::log_record::structured;
use crate::message::{KeyValue, Resource};
use crate::settings::Variables;

/// The attributes of a resource, as another process reads them.
pub(crate) type Attributes = BTreeMap<String, Value>;

/// Attributes of Kubernetes, each with the variables in which manifests usually give it.
const KUBERNETES: &[(&str, &[&str])] = &[
    ("k8s.pod.name", &["K8S_POD_NAME", "POD_NAME", "MY_POD_NAME"]),
    ("k8s.pod.uid", &["K8S_POD_UID", "POD_UID", "MY_POD_UID"]),
    (
        "k8s.namespace.name",
        &[
            "K8S_NAMESPACE_NAME",
            "K8S_NAMESPACE",
            "POD_NAMESPACE",
            "MY_POD_NAMESPACE",
        ],
    ),
    ("k8s.node.name", &["K8S_NODE_NAME", "NODE_NAME", "MY_NODE_NAME"]),
    ("k8s.container.name", &["K8S_CONTAINER_NAME", "CONTAINER_NAME"]),
    ("k8s.job.name", &["K8S_JOB_NAME", "JOB_NAME"]),
    ("k8s.cluster.name", &["K8S_CLUSTER_NAME", "CLUSTER_NAME"]),
];

/// Returns the attributes of the resource. Those of the user go before those that this crate finds.
pub(crate) fn describe(
    context: &BuildContext<'_>,
    of_user: &BTreeMap<String, String>,
    variables: Variables<'_>,
) -> Attributes {
    let mut found = Attributes::new();
    let mut text = |key: &str, value: String| found.insert(key.to_owned(), value.into());
    text("service.name", context.logger().to_owned());
    if !context.run().id().is_empty() {
        text("service.instance.id", context.run().id().to_owned());
    }
    let host = files::read_to_string(Path::new("/proc/sys/kernel/hostname"), 4096).ok();
    if let Some(host) = host.or_else(|| variables("HOSTNAME")) {
        text("host.name", host.trim().to_owned());
    }
    // Elsewhere, POD_NAME and the like may mean anything.
    if variables("KUBERNETES_SERVICE_HOST").is_some() {
        for (key, names) in KUBERNETES {
            if let Some(value) = names.iter().find_map(|name| variables(name)) {
                text(key, value);
            }
        }
    }
    for (key, value) in of_user {
        text(key, value.clone());
    }
    if let Some(service) = variables("OTEL_SERVICE_NAME").filter(|service| !service.trim().is_empty()) {
        text("service.name", service);
    }
    for (key, number) in [("process.pid", std::process::id()), ("logcore.rank", context.rank())] {
        found.insert(key.to_owned(), number.into());
    }
    found
}

/// Returns the resource with these attributes.
pub(crate) fn with_attributes(attributes: &Attributes) -> Resource {
    let attributes = attributes.iter().map(|(key, value)| KeyValue {
        key: key.clone(),
        value: Some(structured(value.clone())),
    });
    Resource {
        attributes: attributes.collect(),
    }
}

#[cfg(test)]
mod tests {
    use logcore::{LogConfig, RunInfo, StopFlag};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_resource_tells_run_process_and_pod() {
        let config = LogConfig {
            name: "trainer".into(),
            rank: Some(3),
            ..LogConfig::default()
        };
        let stop = StopFlag::default();
        let run = RunInfo::new("k3v9q2ab", "trainer", "run", 1);
        let context = BuildContext::new(&config, &stop).with_run(&run);
        let in_pod = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some("10.0.0.1".to_owned()),
            "POD_NAME" => Some("trainer-0".to_owned()),
            "OTEL_SERVICE_NAME" => Some("vision".to_owned()),
            _ => None,
        };
        let of_user = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
        let resource = describe(&context, &of_user, &in_pod);
        for (key, value) in [
            ("service.name", json!("vision")),
            ("service.instance.id", json!("k3v9q2ab")),
            ("process.pid", json!(std::process::id())),
            ("logcore.rank", json!(3)),
            ("k8s.pod.name", json!("trainer-0")),
            ("team", json!("a")),
        ] {
            assert_eq!(resource[key], value, "{key}");
        }
        assert_eq!(with_attributes(&resource).attributes.len(), resource.len());
        let outside = |name: &str| (name == "POD_NAME").then(|| "x".to_owned());
        let resource = describe(&context, &of_user, &outside);
        assert!(!resource.contains_key("k8s.pod.name"));
        assert_eq!(resource["service.name"], "trainer");
    }
}
