//! The rules in `docs/alerts.md` are rules, and fire when they must.

use std::{fs, process::Command};

use tempfile::TempDir;

use crate::real::{PROMETHEUS, PROMTOOL};

const PAGE: &str = include_str!("../../../docs/alerts.md");

/// The labels of a process and of a line of it, as leakline serves them.
const SITE: &str = r#"service="shop",site="3f9c2a1b77d0e4c1""#;

/// The blocks of the page in a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let opened = format!("```{language}\n");
    PAGE.split(&*opened).skip(1).map(|block| block.split("```").next().unwrap()).collect()
}

/// What promtool says; it must be content.
fn promtool(arguments: &[&str]) -> String {
    let output = Command::new(PROMETHEUS.path_of(PROMTOOL)).args(arguments).output().unwrap();
    let said = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned()).concat();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

#[test]
fn alert_rules_of_the_page_fire_when_they_must_and_not_else() {
    let folder = TempDir::new().unwrap();
    let [rules] = blocks("yaml")[..] else { panic!("one block of rules") };
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("rules.yml"), rules).unwrap();
    let said = promtool(&["check", "rules", "--lint=all", "--lint-fatal", &path("rules.yml")]);
    println!("{}", said.trim());
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();

    let info = format!("leakline_site_info{{{SITE},function=\"main.put\",file=\"/s.go\",line=\"42\"}}");
    let growing = [
        ("leakline_memory_seconds_to_limit{service=\"shop\"}".to_owned(), "7200-60x300"),
        ("leakline_memory_seconds_to_limit_high{service=\"shop\"}".to_owned(), "9000-60x300"),
        (format!("leakline_site_growth_bytes_per_second{{{SITE}}}"), "98000x300"),
        (format!("leakline_site_verdict{{{SITE},verdict=\"leaking\"}}"), "1x300"),
        (format!("leakline_site_verdict{{pod=\"a\",{SITE},verdict=\"leaking\"}}"), "1x300"),
        (format!("leakline_site_verdict{{pod=\"b\",{SITE},verdict=\"leaking\"}}"), "1x300"),
        (format!("leakline_goroutines{{{SITE},wait_reason=\"chan send\"}}"), "0+20x300"),
        ("leakline_memory_bytes{service=\"native\",component=\"native\"}".to_owned(), "0+6000000x300"),
        ("leakline_refusals_total{reason=\"sampler_off\"}".to_owned(), "0x90 1x210"),
        (info.clone(), "1x300"),
    ];
    // Fills a cache, ends no time soon, starts goroutines that end, grows in C code while the heap does, and is refused nothing.
    let well = [
        ("leakline_memory_seconds_to_limit{service=\"shop\"}".to_owned(), "90000x300"),
        (format!("leakline_site_growth_bytes_per_second{{{SITE}}}"), "98000x300"),
        (format!("leakline_site_verdict{{{SITE},verdict=\"warming_up\"}}"), "1x300"),
        ("leakline_process_verdict{service=\"shop\",verdict=\"growing\"}".to_owned(), "1x300"),
        (format!("leakline_goroutines{{{SITE},wait_reason=\"chan send\"}}"), "100x300"),
        ("leakline_memory_bytes{service=\"shop\",component=\"native\"}".to_owned(), "0+6000000x300"),
        ("leakline_refusals_total{reason=\"sampler_off\"}".to_owned(), "1x300"),
        (info, "1x300"),
    ];
    for (series, must_fire) in [(&growing[..], true), (&well[..], false)] {
        let inputs: Vec<_> =
            series.iter().map(|(series, values)| serde_json::json!({"series": series, "values": values})).collect();
        // An alert that is named and has none expected must be silent; which labels it has when it fires is not of interest.
        let tests: Vec<_> = alerts
            .iter()
            .map(|alert| {
                let firing = format!("count(ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}})");
                let samples =
                    if must_fire { serde_json::json!([{"labels": "{}", "value": 1}]) } else { serde_json::json!([]) };
                serde_json::json!({"expr": firing, "eval_time": "2h", "exp_samples": samples})
            })
            .collect();
        let test = serde_json::json!({
            "rule_files": [path("rules.yml")],
            "evaluation_interval": "1m",
            "tests": [{"interval": "1m", "input_series": inputs, "promql_expr_test": tests}],
        });
        // JSON is YAML.
        fs::write(path("test.yml"), test.to_string()).unwrap();
        promtool(&["test", "rules", &path("test.yml")]);
    }
    assert_eq!(alerts.len(), 7);
    println!("{} alerts fire and are silent", alerts.len());
}

#[test]
fn questions_of_the_page_can_be_asked() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("questions.yml");
    for page in [PAGE, include_str!("../../../docs/site-identity.md")] {
        let block = page.split("```promql\n").nth(1).and_then(|block| block.split("```").next()).unwrap();
        let questions = block.split("\n\n").map(str::trim).filter(|question| !question.is_empty());
        // As rules that record, promtool reads them.
        let rules: Vec<_> = (0..)
            .zip(questions)
            .map(|(number, expr)| serde_json::json!({"record": format!("asked:{number}"), "expr": expr}))
            .collect();
        assert!(!rules.is_empty());
        fs::write(&file, serde_json::json!({"groups": [{"name": "questions", "rules": rules}]}).to_string()).unwrap();
        promtool(&["check", "rules", "--lint=none", file.to_str().unwrap()]);
    }
}

#[test]
fn an_exposition_with_growth_is_clean_to_promtool() {
    let text = include_str!("../../src/export/metrics/testdata/growing.prom");
    assert!(text.contains("leakline_site_growth_bytes_per_second{") && text.contains("_seconds_to_limit_low"));
    crate::real::is_clean_to_promtool(text);
}
