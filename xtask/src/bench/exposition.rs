//! What `leakline run` serves, read back by benches: the classic text format, as far as leakline writes it.

use std::collections::BTreeMap;

use serde::Serialize;

/// What `leakline` serves of one service; the sums are since it was started.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Told {
    /// CPU time that it says to have added in the last minute, a share of the service's.
    pub(super) overhead_ratio: Option<f64>,
    pub(super) added_cpu_s: f64,
    pub(super) bursts: f64,
    pub(super) open_s: f64,
    pub(super) births: f64,
    pub(super) looked: f64,
    pub(super) missed: f64,
    pub(super) verdict: Option<String>,
}

/// An exposition in the classic text format.
pub(super) struct Page(pub(super) String);

impl Page {
    /// The series of a metric that have all these labels: their labels and values.
    fn series<'a>(&'a self, name: &'a str, labels: &'a [String]) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (found, value) = rest.rsplit_once(' ')?;
            let is_it =
                (found.is_empty() || found.starts_with('{')) && labels.iter().all(|label| found.contains(label));
            Some((found, value.parse().ok()?)).filter(|_| is_it)
        })
    }

    pub(super) fn sum(&self, name: &str, labels: &[String]) -> f64 {
        self.series(name, labels).map(|(_, value)| value).sum()
    }

    pub(super) fn told(&self, service: &str) -> Told {
        let of = [format!("service=\"{service}\"")];
        let sum = |name: &str| self.sum(name, &of);
        let verdict = self.series("leakline_process_verdict", &of).find_map(|(labels, _)| label(labels, "verdict"));
        Told {
            overhead_ratio: self.series("leakline_target_cpu_overhead_ratio", &of).map(|(_, value)| value).next(),
            added_cpu_s: sum("leakline_target_added_cpu_seconds_total"),
            bursts: sum("leakline_bursts_total"),
            open_s: sum("leakline_bursts_open_seconds_total"),
            births: sum("leakline_births_total"),
            looked: sum("leakline_collections_looked_total"),
            missed: sum("leakline_collections_missed_total"),
            verdict,
        }
    }

    pub(super) fn lost(&self) -> BTreeMap<String, f64> {
        let lost = self.series("leakline_events_lost_total", &[]).filter(|(_, count)| *count > 0.0);
        lost.filter_map(|(labels, count)| Some((label(labels, "reason")?, count))).collect()
    }

    /// Lines that are said to leak, and processes.
    pub(super) fn accused(&self) -> Vec<String> {
        let leaking = ["verdict=\"leaking\"".to_owned()];
        let names = ["leakline_site_verdict", "leakline_process_verdict"];
        let accused =
            names.into_iter().flat_map(|name| self.series(name, &leaking).map(move |(labels, _)| (name, labels)));
        let named = accused.map(|(name, labels)| {
            let of = label(labels, "site").map(|site| [format!("site=\"{site}\"")]);
            let info = of.and_then(|of| self.series("leakline_site_info", &of).map(|(info, _)| info.to_owned()).next());
            format!("{name} {}", info.as_deref().unwrap_or(labels))
        });
        named.collect()
    }
}

fn label(labels: &str, name: &str) -> Option<String> {
    let (_, rest) = labels.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_found_by_name_and_label_and_not_by_a_part_of_a_name() {
        let page = Page(
            "# TYPE leakline_bursts_total counter\n\
             leakline_bursts_total{service=\"etcd\"} 3\n\
             leakline_bursts_total{service=\"other\"} 4\n\
             leakline_bursts_total_more{service=\"etcd\"} 5\n\
             leakline_events_lost_total{reason=\"ring_full\"} 0\n\
             leakline_events_lost_total{reason=\"births_no_room\"} 2\n\
             leakline_process_verdict{service=\"etcd\",verdict=\"steady\"} 1\n\
             leakline_site_verdict{service=\"etcd\",site=\"1f\",verdict=\"leaking\"} 1\n\
             leakline_site_info{service=\"etcd\",site=\"1f\",function=\"main.f\"} 1\n\
             process_resident_memory_bytes 4096\n"
                .into(),
        );
        let told = page.told("etcd");
        assert_eq!((told.bursts, told.overhead_ratio, told.verdict.as_deref()), (3.0, None, Some("steady")));
        assert_eq!(page.lost(), BTreeMap::from([("births_no_room".to_owned(), 2.0)]));
        assert_eq!(page.sum("process_resident_memory_bytes", &[]).to_string(), "4096");
        let [accused] = page.accused().try_into().unwrap();
        assert!(accused.contains("main.f"), "{accused}");
    }
}
