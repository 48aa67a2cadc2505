//! Any build info in an otherwise good program: what is believed of it is bounded.

use arbitrary::Arbitrary;

use super::image::GoImage;
use super::mutation::inspected;

#[derive(Arbitrary, Debug)]
struct Input {
    without_sections: bool,
    version: Option<String>,
    modules: Option<String>,
    /// Over the finished part, which begins with the magic.
    patches: Vec<(u8, u8)>,
    replaced: Option<Vec<u8>>,
}

pub(super) fn run(bytes: &[u8]) {
    let Some(input) = super::input::<Input>(bytes) else { return };
    let mut image = GoImage::usual(26);
    image.sections = !input.without_sections;
    image.version = input.version.unwrap_or(image.version);
    image.modules = input.modules.unwrap_or(image.modules);
    let mut built = image.build();
    let info = built.part("build info");
    for (at, byte) in input.patches {
        built.patch(info.start + usize::from(at) % info.len(), &[byte]);
    }
    if let Some(replaced) = input.replaced {
        built.patch(info.start + 15, replaced.get(..info.len() - 15).unwrap_or(&replaced));
    }
    let file_bytes = built.bytes.len();
    let Ok(facts) = inspected(built.bytes) else { return };
    assert!((19..=27).contains(&facts.go_version.minor));
    assert!(facts.go_version.text.len() <= 256 && facts.go_version.text.is_ascii());
    let settings: usize = facts.settings.iter().map(|(key, value)| key.len() + value.len()).sum();
    // Not more text than the file has; what is no UTF-8 is refused.
    assert!(settings <= file_bytes && facts.settings.len() <= 256);
    assert!(facts.main_module.is_none_or(|module| !module.is_empty() && module.len() <= file_bytes));
}
