//! Whose numbers these are: the labels by which processes are told apart, or summed.

use crate::export::{report::ProcessFacts, untrusted};

/// The identity labels of one workload. Processes that agree in all of them are one identity; their counters are
/// summed. Values are escaped and capped already.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    namespace: Option<String>,
    pod: Option<String>,
    container: Option<String>,
    service: String,
    pid: Option<u32>,
}

impl Identity {
    /// The identity of a process. `service` is the container's name, else the executable's. With `pid_label` every
    /// process is an identity of its own.
    pub fn of(process: &ProcessFacts, pid_label: bool) -> Self {
        let known = |name: &Option<String>| {
            name.as_deref().filter(|name| !name.is_empty()).map(|name| untrusted::name(name).into_owned())
        };
        let container = known(&process.container);
        let service = container.clone().unwrap_or_else(|| untrusted::name(process.exe_name()).into_owned());
        Self {
            namespace: known(&process.namespace),
            pod: known(&process.pod),
            container,
            service,
            pid: pid_label.then_some(process.pid),
        }
    }

    /// Names and values. What is not known has no label: to Prometheus an empty label is an absent one anyway.
    pub(super) fn labels(&self) -> impl Iterator<Item = (&'static str, String)> {
        [
            ("namespace", self.namespace.clone()),
            ("pod", self.pod.clone()),
            ("container", self.container.clone()),
            ("service", Some(self.service.clone())),
            ("pid", self.pid.map(|pid| pid.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(process: &ProcessFacts, pid_label: bool) -> Vec<(&'static str, String)> {
        Identity::of(process, pid_label).labels().collect()
    }

    #[test]
    fn unknown_labels_are_omitted_and_the_service_is_the_executable() {
        let process = ProcessFacts { pid: 7, exe: "/srv/sh\nop".into(), ..ProcessFacts::default() };
        assert_eq!(labels(&process, false), [("service", "sh\\u{a}op".into())]);
        assert_eq!(labels(&process, true), [("service", "sh\\u{a}op".into()), ("pid", "7".into())]);
    }

    #[test]
    fn the_service_of_a_container_is_its_name() {
        let process = ProcessFacts {
            exe: "/srv/shop".into(),
            namespace: Some("prod".into()),
            pod: Some("shop-1".into()),
            container: Some("web".into()),
            ..ProcessFacts::default()
        };
        let expected = [("namespace", "prod"), ("pod", "shop-1"), ("container", "web"), ("service", "web")];
        assert_eq!(labels(&process, false), expected.map(|(name, value)| (name, value.to_owned())));
    }
}
