//! The build info that the Go linker leaves in every program: version, module, settings.
//!
//! Format: debug/buildinfo/buildinfo.go (go1.18 and later, with the strings inline) and runtime/debug/mod.go.

use super::InspectError;
use super::elf::ElfImage;

const STRUCTURE: &str = "go build info";
const MAGIC: &[u8; 14] = b"\xff Go buildinf:";
const HEADER_BYTES: u64 = 32;
/// Position of the flags in the header.
const FLAGS_AT: u64 = 15;
/// The magic stands at a multiple of this (`buildInfoAlign`).
const ALIGNMENT: usize = 16;
/// How much of the data segment is searched where the section's name is gone, as cmd/go did up to go1.22.
const SEARCH_BYTES: u64 = 64 * 1024;
/// Flag: the strings follow the header. Without it (before go1.18) they are behind pointers.
const FLAG_INLINE: u8 = 2;
/// Longest version and longest module text that are read.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// Most settings that are kept; `go build` writes about twenty.
const SETTINGS_MAX: usize = 256;

/// What the build info says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BuildInfo {
    /// `go1.26.6`
    pub(crate) version: String,
    /// The `path` line: the main package.
    pub(crate) package_path: Option<String>,
    /// The path of the `mod` line.
    pub(crate) module_path: Option<String>,
    /// The version on the same line.
    pub(crate) module_version: Option<String>,
    /// The `build` lines.
    pub(crate) settings: Vec<(String, String)>,
}

impl BuildInfo {
    /// `None` where the binary has none.
    pub(crate) fn read(image: &ElfImage) -> Result<Option<Self>, InspectError> {
        let Some(start) = find(image)? else { return Ok(None) };
        let [flags] = image.source.array(STRUCTURE, start.saturating_add(FLAGS_AT))?;
        if flags & FLAG_INLINE == 0 {
            return Err(super::version::unsupported("a version before go1.18"));
        }
        let (version, after) = counted_text(image, start.saturating_add(HEADER_BYTES))?;
        let version = String::from_utf8(version).map_err(|error| {
            InspectError::malformed(STRUCTURE, "utf-8 of the version", error.utf8_error().valid_up_to() as u64)
        })?;
        let (module, _) = counted_text(image, after)?;
        let mut info = Self { version, ..Self::default() };
        if let Some(text) = unframed(&module) {
            let text = str::from_utf8(text).map_err(|error| {
                InspectError::malformed(STRUCTURE, "utf-8 of the modules", error.valid_up_to() as u64)
            })?;
            info.take_lines(text);
        }
        Ok(Some(info))
    }

    fn take_lines(&mut self, text: &str) {
        for line in text.lines() {
            let mut columns = line.split('\t');
            match (columns.next(), columns.next()) {
                (Some("path"), Some(path)) => self.package_path = Some(path.to_owned()),
                (Some("mod"), Some(path)) => {
                    self.module_path = Some(path.to_owned());
                    self.module_version = columns.next().filter(|version| !version.is_empty()).map(str::to_owned);
                }
                (Some("build"), Some(setting)) if self.settings.len() < SETTINGS_MAX => {
                    self.settings.extend(key_and_value(setting));
                }
                _ => {}
            }
        }
    }

    /// The module whose packages are "ours": that of the `mod` line, else the repository prefix of the main package's
    /// path where that begins with a host. `None`: only package `main` is known to be ours.
    pub(crate) fn main_module(&self) -> Option<String> {
        const NO_MODULE: &str = "command-line-arguments";
        if let Some(path) = self.module_path.as_deref().filter(|path| !path.is_empty() && *path != NO_MODULE) {
            return Some(path.to_owned());
        }
        let path = self.package_path.as_deref()?;
        let host = path.split('/').next()?;
        if !host.contains('.') {
            return None;
        }
        Some(path.split('/').take(3).collect::<Vec<_>>().join("/"))
    }
}

/// The file offset of the magic.
fn find(image: &ElfImage) -> Result<Option<u64>, InspectError> {
    if let Some(section) = image.section(".go.buildinfo")
        && section.size_bytes >= HEADER_BYTES
    {
        let magic: [u8; 14] = image.source.array(STRUCTURE, section.file_offset)?;
        return if magic == *MAGIC {
            Ok(Some(section.file_offset))
        } else {
            Err(InspectError::malformed(STRUCTURE, "first byte of the magic", u64::from(magic[0])))
        };
    }
    for segment in image.segments.iter().filter(|segment| segment.writable && !segment.executable) {
        let size_bytes = segment.file_size_bytes.min(SEARCH_BYTES);
        let bytes = image.source.bytes("data segment", segment.file_offset.0, size_bytes)?;
        let place = bytes.chunks(ALIGNMENT).position(|chunk| chunk.starts_with(MAGIC));
        if let Some(place) = place {
            return Ok(Some(segment.file_offset.0.saturating_add((place * ALIGNMENT) as u64)));
        }
    }
    Ok(None)
}

/// A text behind its length as an unsigned varint, and the offset behind it.
fn counted_text(image: &ElfImage, offset: u64) -> Result<(Vec<u8>, u64), InspectError> {
    let mut bytes = [0; 10];
    let read = image.source.read_up_to(STRUCTURE, offset, &mut bytes)?;
    let (length_bytes, used) = varint(bytes.get(..read).unwrap_or_default())
        .ok_or_else(|| InspectError::malformed(STRUCTURE, "varint", u64::from(bytes[0])))?;
    if length_bytes > TEXT_BYTES_MAX {
        return Err(InspectError::malformed(STRUCTURE, "length of a text", length_bytes));
    }
    let start = offset.saturating_add(used);
    Ok((image.source.bytes(STRUCTURE, start, length_bytes)?, start.saturating_add(length_bytes)))
}

fn varint(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut value = 0_u64;
    for (index, byte) in (0_u32..10).zip(bytes) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * index)?;
        if byte & 0x80 == 0 {
            return Some((value, u64::from(index) + 1));
        }
    }
    None
}

/// The module text without the 16 marker bytes on each side (`modload.ModInfoProg`); `None` where they are not there.
fn unframed(module: &[u8]) -> Option<&[u8]> {
    let length = module.len();
    let newline = *module.get(length.checked_sub(17)?)?;
    if length < 33 || newline != b'\n' {
        return None;
    }
    module.get(16..length - 16)
}

/// `key=value`, each perhaps quoted as Go quotes strings.
fn key_and_value(setting: &str) -> Option<(String, String)> {
    let (key, rest) = if setting.starts_with('"') { unquoted(setting)? } else { plain_key(setting) };
    let value = rest.strip_prefix('=')?;
    let value = match unquoted(value) {
        Some((text, "")) => text,
        _ => value.trim_matches('`').to_owned(),
    };
    Some((key, value))
}

fn plain_key(setting: &str) -> (String, &str) {
    // A key may begin with '-' but holds no '='.
    let end = setting.find('=').unwrap_or(setting.len());
    let (key, rest) = setting.split_at(end);
    (key.to_owned(), rest)
}

/// The text between the quotes at the beginning, and what follows; `None` without quotes. Escapes other than of the
/// quote, the backslash, newline and tab are left as they stand.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let rest = text.strip_prefix('"')?;
    let mut plain = String::new();
    let mut characters = rest.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((plain, rest.get(index + 1..)?)),
            '\\' => match characters.next()?.1 {
                'n' => plain.push('\n'),
                't' => plain.push('\t'),
                quoted @ ('"' | '\\') => plain.push(quoted),
                other => plain.extend(['\\', other]),
            },
            _ => plain.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_lines(text: &str) -> BuildInfo {
        let mut info = BuildInfo::default();
        info.take_lines(text);
        info
    }

    #[test]
    fn lines_are_taken_apart() {
        let info = from_lines(
            "path\tgithub.com/x/y/cmd/z\nmod\tgithub.com/x/y\tv1.2.3\th1:abc=\ndep\tgolang.org/x/net\tv0.1.0\th1:x=\n\
             build\t-buildmode=exe\nbuild\tCGO_ENABLED=0\nbuild\t-ldflags=\"-X main.version=\\\"1\\\"\"\n\
             build\t\"odd=key\"=1\nbuild\tCGO_CFLAGS=\nbuild\tbroken\n",
        );
        assert_eq!(info.package_path.as_deref(), Some("github.com/x/y/cmd/z"));
        assert_eq!(info.main_module().as_deref(), Some("github.com/x/y"));
        let settings: Vec<_> = info.settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(
            settings,
            [
                ("-buildmode", "exe"),
                ("CGO_ENABLED", "0"),
                ("-ldflags", "-X main.version=\"1\""),
                ("odd=key", "1"),
                ("CGO_CFLAGS", "")
            ]
        );
    }

    #[test]
    fn main_module_falls_back_to_the_repository() {
        let of = |text| from_lines(text).main_module();
        assert_eq!(of("path\tgithub.com/x/y/cmd/z\n").as_deref(), Some("github.com/x/y"));
        assert_eq!(of("path\texample.com/tool\n").as_deref(), Some("example.com/tool"));
        assert_eq!(of("path\tcommand-line-arguments\n"), None);
        assert_eq!(of("path\tcmd/go\n"), None);
        assert_eq!(of(""), None);
        assert_eq!(of("path\tx\nmod\tlocal\t(devel)\t\n").as_deref(), Some("local"));
    }

    #[test]
    fn varints_are_bounded() {
        assert_eq!(varint(&[0x05]), Some((5, 1)));
        assert_eq!(varint(&[0x80, 0x01, 0xff]), Some((128, 2)));
        assert_eq!(varint(&[0xff; 10]), None);
        assert_eq!(varint(&[]), None);
        assert_eq!(varint(&[0x80]), None);
    }
}
