//! How fast does a series grow, and how sure is that?
//!
//! The slope is that of ordinary least squares. Its interval must be honest although successive values depend on each other
//! (what one collection finds alive, the next one mostly finds again): the wider of two, one from residuals that are taken
//! for a first-order autoregressive process, one from the slopes of parts of the window, which needs no such assumption.
//! Measured on 57 runs of 23 programs at nominal 95 %: plain least squares covers the truth in 77 % of the windows,
//! Theil-Sen in 75 %, AR(1) alone in 87 to 91 %, the wider of AR(1) and parts in 99 %.
//!
//! References: J. D. Hamilton, Time Series Analysis, chapter 8; M. G. Kendall, Note on bias in the estimation of
//! autocorrelation, Biometrika 41 (1954); L. Schruben, Confidence interval estimation using standardized time series,
//! Operations Research 31 (1983), for batches.

use statrs::distribution::{ContinuousCDF as _, StudentsT};

use super::Rate;

/// Fewer points say nothing about how sure a slope is.
pub const POINTS_MIN: usize = 4;
/// More points are averaged: the cost of the interval is the square of their number.
const POINTS_MAX: usize = 60;
/// Parts of the window whose slopes are compared; fewer where there are fewer points than these.
const PARTS: usize = 6;
const PARTS_OF_FEW: usize = 3;
/// No interval is narrower than this share of the slope to each side: books are exact, the clock is not.
const RELATIVE_FLOOR: f64 = 0.01;
/// Autocorrelation is not believed beyond this: the variance would be that of a random walk.
const AUTOCORRELATION_MAX: f64 = 0.98;
/// Two-sided 95 %.
const QUANTILE: f64 = 0.975;

/// One value of a series.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Point {
    /// When, seconds.
    pub at_s: f64,
    /// What.
    pub value: f64,
}

/// The slope of a series, per second, with its 95 % interval. `None`: fewer than [`POINTS_MIN`] points, or all at one time.
///
/// Points are in order of time.
pub fn slope(points: &[Point]) -> Option<Rate> {
    let points = averaged(points);
    let line = Line::through(&points)?;
    let half_width =
        line.autoregressive_half_width().max(parts_half_width(&points)?).max(RELATIVE_FLOOR * line.slope.abs());
    Some(Rate { value: line.slope, low: line.slope - half_width, high: Some(line.slope + half_width) })
}

/// By how much a series rises in each third of its time, by linear interpolation. `None` as for [`slope`].
pub fn rises_in_thirds(points: &[Point]) -> Option<[f64; 3]> {
    let (first, last) = (points.first()?, points.last()?);
    let third = (last.at_s - first.at_s) / 3.0;
    if points.len() < POINTS_MIN || third <= 0.0 {
        return None;
    }
    let [a, b, c, d] = [0.0, 1.0, 2.0, 3.0].map(|part| value_at(points, first.at_s + part * third));
    Some([b - a, c - b, d - c])
}

/// At most [`POINTS_MAX`] points: the means of equal shares of them.
fn averaged(points: &[Point]) -> Vec<Point> {
    if points.len() <= POINTS_MAX {
        return points.to_vec();
    }
    let bound = |part: usize| part * points.len() / POINTS_MAX;
    (0..POINTS_MAX)
        .filter_map(|part| points.get(bound(part)..bound(part + 1)))
        .map(|part| {
            let mean = |of: fn(&Point) -> f64| part.iter().map(of).sum::<f64>() / count(part.len());
            Point { at_s: mean(|point| point.at_s), value: mean(|point| point.value) }
        })
        .collect()
}

/// The line of least squares.
struct Line {
    slope: f64,
    /// Times from their mean.
    times: Vec<f64>,
    /// Their squares, summed.
    spread: f64,
    residuals: Vec<f64>,
}

impl Line {
    fn through(points: &[Point]) -> Option<Self> {
        if points.len() < POINTS_MIN {
            return None;
        }
        let n = count(points.len());
        let mean = |of: fn(&Point) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (mean_time, mean_value) = (mean(|point| point.at_s), mean(|point| point.value));
        let times: Vec<f64> = points.iter().map(|point| point.at_s - mean_time).collect();
        let spread: f64 = times.iter().map(|time| time * time).sum();
        if !spread.is_finite() || spread <= 0.0 {
            return None;
        }
        let values = points.iter().map(|point| point.value - mean_value);
        let slope = times.iter().zip(values.clone()).map(|(time, value)| time * value).sum::<f64>() / spread;
        let residuals = times.iter().zip(values).map(|(time, value)| value - slope * time).collect();
        Some(Self { slope, times, spread, residuals })
    }

    /// Half of the interval where residuals follow an AR(1) process in the order of the points.
    fn autoregressive_half_width(&self) -> f64 {
        let n = self.times.len();
        let squares: f64 = self.residuals.iter().map(|residual| residual * residual).sum();
        if squares <= 0.0 {
            return 0.0;
        }
        let neighbours: f64 = self.residuals.iter().zip(self.residuals.iter().skip(1)).map(|(a, b)| a * b).sum();
        let raw = neighbours / squares;
        // Residuals of a fitted line look less correlated than the errors are (Kendall 1954; the trend takes its part).
        let correlation = (raw + (2.0 + 4.0 * raw) / count(n)).clamp(0.0, AUTOCORRELATION_MAX);
        let powers: Vec<f64> = std::iter::successors(Some(1.0), |power| Some(power * correlation)).take(n).collect();
        // x'Rx, and the trace of R less its projection on the line, where R is the matrix of correlations.
        let (mut spread_of_slope, mut projected) = (0.0, 0.0);
        for (i, x_i) in self.times.iter().enumerate() {
            for (j, x_j) in self.times.iter().enumerate() {
                let between = powers.get(i.abs_diff(j)).copied().unwrap_or_default();
                spread_of_slope += x_i * between * x_j;
                projected += between * (1.0 / count(n) + x_i * x_j / self.spread);
            }
        }
        let error_variance = squares / (count(n) - projected).max(1e-9);
        let variance = error_variance * spread_of_slope / (self.spread * self.spread);
        let independent = count(n) * (1.0 - correlation) / (1.0 + correlation);
        student((independent - 2.0).max(2.0)) * variance.max(0.0).sqrt()
    }
}

/// Half of the interval of the mean of the slopes of equal parts of the time. `None`: no time.
fn parts_half_width(points: &[Point]) -> Option<f64> {
    let (first, last) = (points.first()?, points.last()?);
    let parts = if points.len() < PARTS { PARTS_OF_FEW } else { PARTS };
    let length = (last.at_s - first.at_s) / count(parts);
    if length <= 0.0 {
        return None;
    }
    let bounds: Vec<f64> = (0..=parts).map(|part| value_at(points, first.at_s + count(part) * length)).collect();
    let slopes: Vec<f64> = bounds.windows(2).filter_map(|pair| Some((pair.get(1)? - pair.first()?) / length)).collect();
    let mean = slopes.iter().sum::<f64>() / count(parts);
    let variance = slopes.iter().map(|slope| (slope - mean).powi(2)).sum::<f64>() / (count(parts) - 1.0);
    Some(student(count(parts) - 1.0) * (variance / count(parts)).sqrt())
}

/// The series at a time between its first and last point, by linear interpolation.
fn value_at(points: &[Point], at_s: f64) -> f64 {
    let behind = points.partition_point(|point| point.at_s < at_s);
    let (Some(after), before) = (points.get(behind).or(points.last()), points.get(behind.wrapping_sub(1))) else {
        return 0.0;
    };
    match before {
        Some(before) if after.at_s > before.at_s => {
            let part = ((at_s - before.at_s) / (after.at_s - before.at_s)).clamp(0.0, 1.0);
            before.value + part * (after.value - before.value)
        }
        _ => after.value,
    }
}

/// The two-sided 95 % quantile of Student's t. Infinite where there is none.
fn student(degrees: f64) -> f64 {
    StudentsT::new(0.0, 1.0, degrees).map_or(f64::INFINITY, |distribution| distribution.inverse_cdf(QUANTILE))
}

#[expect(clippy::cast_precision_loss, reason = "counts of points, at most thousands")]
fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: impl IntoIterator<Item = f64>) -> Vec<Point> {
        values.into_iter().enumerate().map(|(at, value)| Point { at_s: count(at), value }).collect()
    }

    #[test]
    fn a_line_has_its_slope_and_the_least_interval() {
        let rate = slope(&series((0..200).map(|at| 5.0 + 3.0 * f64::from(at)))).unwrap();
        assert!((rate.value - 3.0).abs() < 1e-9, "{rate:?}");
        assert!((rate.low - 2.97).abs() < 1e-6 && (rate.high.unwrap() - 3.03).abs() < 1e-6, "{rate:?}");
        assert_eq!(slope(&series([1.0, 2.0, 3.0])), None);
        assert_eq!(slope(&[Point { at_s: 1.0, value: 2.0 }; 9]), None);
    }

    #[test]
    fn a_sawtooth_does_not_grow() {
        let rate = slope(&series((0..90).map(|at| f64::from(at % 30)))).unwrap();
        assert!(rate.low < 0.0 && rate.high.unwrap() > 0.0, "{rate:?}");
    }

    #[test]
    fn thirds_are_told_apart() {
        let filled = series((0..31).map(|at| f64::from(at.min(10))));
        assert_eq!(rises_in_thirds(&filled).unwrap(), [10.0, 0.0, 0.0]);
        assert_eq!(rises_in_thirds(&filled[..3]), None);
    }
}
