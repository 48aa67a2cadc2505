//! Pictures of a soak as text: a line for each series, a character for each look.

use super::soak_bursts::{SERVICES, Sample};

/// From nothing to the most.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A line of each series, named, with its scale.
pub(super) fn charts(samples: &[Sample]) -> Vec<String> {
    let is_on: String = samples.iter().map(|sample| if sample.leakline.is_some() { '#' } else { '.' }).collect();
    let mut lines = vec![
        "Each character is a look, from left to right; bars begin at 0, the highest is the number on the left."
            .to_owned(),
        String::new(),
        format!("{:>10}  {:34}|{is_on}|", "", "leakline runs"),
    ];
    let mut add = |name: &str, unit: &str, of: &dyn Fn(&Sample) -> Option<f64>| {
        let values: Vec<Option<f64>> = samples.iter().map(of).collect();
        let most = values.iter().flatten().copied().fold(0.0, f64::max);
        lines.push(format!("{most:>10.3}  {:34}|{}|", format!("{name}, {unit}"), bars(&values, most)));
    };
    for (index, service) in SERVICES.into_iter().enumerate() {
        let look = |sample: &Sample| sample.services.get(index).cloned();
        add(service, "requests/s", &|sample| Some(look(sample)?.requests_per_s));
        add(service, "CPU us a request", &|sample| Some(look(sample)?.cpu_us_per_request));
        add(service, "cores", &|sample| Some(look(sample)?.cores));
        add(service, "% added, last minute", &|sample| Some(100.0 * look(sample)?.overhead_ratio()?));
    }
    add("leakline", "cores", &|sample| Some(sample.leakline.as_ref()?.cores));
    add("leakline", "MiB", &|sample| Some(sample.leakline.as_ref()?.rss_bytes / f64::from(1 << 20)));
    add("machine", "load average", &|sample| Some(sample.load_average));
    lines
}

/// A bar for each value; a blank where there is none.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 8")]
fn bars(values: &[Option<f64>], most: f64) -> String {
    let highest = BARS.len() - 1;
    let bar = |value: &Option<f64>| {
        let Some(value) = value.filter(|value| value.is_finite() && most > 0.0) else { return ' ' };
        // The lowest bar is 0: a blank is no value.
        let height = (value / most * f64::from(u8::try_from(highest).unwrap_or(u8::MAX))).round().max(1.0) as usize;
        BARS.get(height.min(highest)).copied().unwrap_or(' ')
    };
    values.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_values_and_what_is_not_known_is_blank() {
        assert_eq!(bars(&[Some(0.0), Some(4.0), None, Some(8.0), Some(f64::NAN)], 8.0), "▁▄ █ ");
        assert_eq!(bars(&[Some(0.0), Some(0.0)], 0.0), "  ");
    }
}
