//! Running other programs so that a failure says which command failed and how.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Lines of stderr that a failure shows.
const TAIL_LINES: usize = 20;

/// The command as a person would type it, environment first.
pub(crate) fn shown(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| {
        // PATH is long and only ever extended.
        value.filter(|_| name != "PATH").map(|value| format!("{}={}", name.display(), quoted(&value.to_string_lossy())))
    });
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    set.chain(words.map(|word| quoted(&word.to_string_lossy()))).collect::<Vec<_>>().join(" ")
}

/// Runs with the terminal's own streams.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs silently and returns stdout; an error carries the end of stderr.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{}`", shown(command)))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        // Some tools (go mod download -json) report on stdout.
        let said = if stderr.trim().is_empty() { &stdout } else { stderr.as_ref() };
        bail!("`{}` ended with {}\n{}", shown(command), output.status, tail(said));
    }
    Ok(stdout)
}

/// Whether it can be run and succeeds; nothing is shown.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines[from..].iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "/._-+=:@,%".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''").replace('\x1f', r"\x1f"))
}

#[cfg(test)]
mod tests {
    use super::{capture, shown, tail};
    use std::process::Command;

    #[test]
    fn a_failure_names_the_command_and_the_end_of_what_it_said() {
        let error = capture(Command::new("sh").args(["-c", "echo too bad >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("`sh -c 'echo too bad >&2; exit 3'`"), "{error}");
        assert!(error.contains("    too bad"), "{error}");
        assert!(error.contains('3'), "{error}");
    }

    #[test]
    fn only_the_end_of_a_long_text_is_shown() {
        let long = (0..100).map(|line| format!("line {line}")).collect::<Vec<_>>().join("\n");
        assert!(tail(&long).starts_with("    line 80\n"));
        assert!(tail(&long).ends_with("    line 99"));
    }

    #[test]
    fn environment_and_spaces_are_shown_as_typed() {
        assert_eq!(shown(Command::new("go").env("A", "b c").arg("x")), "A='b c' go x");
    }
}
