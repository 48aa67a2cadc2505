//! Numbers as a person reads them: three significant digits, binary units for bytes, k, M, G for counts.
//!
//! Number and unit are joined by a no-break space, so that a line is not broken between them; `text` prints it as a space.

pub use crate::units::approximate;

/// Bytes with a binary unit: `0 B`, `1.50 KiB`, `21.0 MiB`.
pub fn bytes(value: f64) -> String {
    scaled(value, 1024.0, &["\u{a0}B", "\u{a0}KiB", "\u{a0}MiB", "\u{a0}GiB", "\u{a0}TiB", "\u{a0}PiB", "\u{a0}EiB"])
}

/// A count with a decimal unit: `0`, `999`, `1.20 k`, `12.4 M`.
pub fn count(value: f64) -> String {
    scaled(value, 1000.0, &["", "\u{a0}k", "\u{a0}M", "\u{a0}G", "\u{a0}T", "\u{a0}P", "\u{a0}E"])
}

/// `12,345`: of a count that is exact, and that people compare with those of other tools.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share as a percentage: `48.8 %`, `0.04 %`, `<0.01 %`.
pub fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    match percent {
        _ if !percent.is_finite() => String::from("?"),
        _ if percent > 0.0 && percent < 0.01 => String::from("<0.01\u{a0}%"),
        _ if percent.abs() < 1.0 => format!("{percent:.2}\u{a0}%"),
        _ => format!("{percent:.1}\u{a0}%"),
    }
}

/// A length of time: `0.5 s`, `30.0 s`, `12 min 5 s`, `3 h 20 min`.
pub fn seconds(value: f64) -> String {
    if !value.is_finite() || value < 0.0 {
        return String::from("?");
    }
    if value < 120.0 {
        return format!("{value:.1}\u{a0}s");
    }
    let (minutes, rest) = ((value / 60.0).floor(), value % 60.0);
    if minutes < 120.0 {
        return format!("{minutes:.0}\u{a0}min\u{a0}{:.0}\u{a0}s", rest.floor());
    }
    format!("{:.0}\u{a0}h\u{a0}{:.0}\u{a0}min", (minutes / 60.0).floor(), minutes % 60.0)
}

/// A whole number with a sign unless it is zero: `+310`, `-2`, `0`; large ones scaled as [`count`] does.
pub fn signed(value: i128) -> String {
    let sign = if value > 0 { "+" } else { "" };
    format!("{sign}{}", count(whole(value)))
}

/// With ordinary spaces between numbers and units.
pub fn plain(text: &str) -> String {
    text.replace('\u{a0}', " ")
}

/// An i128 as the nearest f64, for printing and for ratios only.
#[expect(clippy::cast_precision_loss, reason = "three significant digits are shown, an f64 has fifteen")]
pub fn whole(value: i128) -> f64 {
    value as f64
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    if !value.is_finite() {
        return String::from("?");
    }
    let mut scaled = value;
    let mut unit = 0;
    // A value that would round to a full step belongs to the next unit: 999.96 k is 1.00 M.
    while scaled.abs() >= step - 0.5 && unit + 1 < units.len() && (unit > 0 || scaled.abs() >= step) {
        scaled /= step;
        unit += 1;
    }
    let suffix = units.get(unit).copied().unwrap_or_default();
    let decimals = match scaled.abs() {
        _ if unit == 0 && scaled.fract() == 0.0 => 0,
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.decimals$}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_use_binary_units_and_three_digits() {
        let cases = [
            (0.0, "0 B"),
            (1.0, "1 B"),
            (1023.0, "1023 B"),
            (1024.0, "1.00 KiB"),
            (1536.0, "1.50 KiB"),
            (22_020_096.0, "21.0 MiB"),
            (1_048_575.0, "1.00 MiB"),
            (5e9, "4.66 GiB"),
            (1.8e19, "15.6 EiB"),
            (0.25, "0.25 B"),
            (f64::NAN, "?"),
        ];
        for (value, expected) in cases {
            assert_eq!(plain(&bytes(value)), expected, "{value}");
        }
    }

    #[test]
    fn counts_use_decimal_units() {
        let cases = [
            (0.0, "0"),
            (999.0, "999"),
            (1000.0, "1.00 k"),
            (999_960.0, "1.00 M"),
            (12_400_000.0, "12.4 M"),
            (10.333, "10.3"),
            (-1500.0, "-1.50 k"),
        ];
        for (value, expected) in cases {
            assert_eq!(plain(&count(value)), expected, "{value}");
        }
    }

    #[test]
    fn shares_times_and_signs() {
        assert_eq!(plain(&percent(0.488)), "48.8 %");
        assert_eq!(plain(&percent(0.0004)), "0.04 %");
        assert_eq!(plain(&percent(0.000_001)), "<0.01 %");
        assert_eq!(plain(&percent(0.0)), "0.00 %");
        assert_eq!(plain(&percent(f64::NAN)), "?");
        assert_eq!(plain(&seconds(30.0)), "30.0 s");
        assert_eq!(plain(&seconds(725.0)), "12 min 5 s");
        assert_eq!(plain(&seconds(12_000.0)), "3 h 20 min");
        assert_eq!(plain(&seconds(-1.0)), "?");
        assert_eq!(plain(&signed(310)), "+310");
        assert_eq!(plain(&signed(-2)), "-2");
        assert_eq!(plain(&signed(0)), "0");
    }
}
