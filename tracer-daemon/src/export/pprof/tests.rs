//! What is written is read; what is hostile is refused.

use proptest::prelude::*;

use super::*;

fn small() -> Profile {
    let function = |name: &str| Function { name: name.into(), file: "/src/x.go".into(), start_line: 3 };
    Profile {
        sample_types: ValueType::of_heap(),
        shown_first: "".into(),
        period_type: ValueType::new("space", "bytes"),
        period: 524_288,
        time_unix_ns: 1_700_000_000_000_000_000,
        duration_ns: 0,
        mappings: vec![Mapping {
            start: 0x40_0000,
            end: 0x50_0000,
            file_offset: 0,
            file: "/srv/shop".into(),
            build_id: "abc".into(),
            has_functions: true,
        }],
        functions: vec![function("main.f"), function("main.Map[go.shape.int]"), function("main.main")],
        locations: vec![
            Location {
                mapping: Some(0),
                address: 0x40_1000,
                lines: vec![Line { function: 0, line: 4 }, Line { function: 1, line: 9 }],
            },
            Location { mapping: Some(0), address: 0x40_2000, lines: vec![Line { function: 2, line: 20 }] },
            Location { mapping: None, address: 0x7f00_0000, lines: vec![] },
        ],
        samples: vec![
            Sample { locations: vec![0, 1], values: vec![10, 480, 2, 96], size_bytes: Some(48), labels: vec![] },
            Sample { locations: vec![0, 2], values: vec![10, 480, -2, -96], size_bytes: None, labels: vec![] },
        ],
        comments: vec!["leakline".into()],
    }
}

#[test]
fn what_is_written_is_read() {
    let profile = small();
    let bytes = profile.to_bytes().unwrap();
    assert_eq!(bytes, profile.to_bytes().unwrap());
    assert_eq!(Profile::parse(&bytes).unwrap(), profile);
}

#[test]
fn what_is_no_profile_says_so() {
    for (bytes, expected) in [
        (&b""[..], "it is empty"),
        (b"heap profile: 3: 4 [5: 6] @ heap/524288\n", "without debug=1"),
        (b"\x1f\x8bxx", "gzip"),
        (b"\x7fELF\x02\x01\x01", "not a pprof file"),
        (b"{\"a\": 1}", "not a pprof file"),
        (b"\x48\x01", "what was sampled"),
    ] {
        let error = Profile::parse(bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let bytes = small().to_bytes().unwrap();
    let error = Profile::parse(&bytes[..bytes.len() / 2]).unwrap_err().to_string();
    assert!(error.contains("cut short"), "{error}");
}

#[test]
fn what_refers_to_nothing_is_damaged() {
    let check = |change: fn(&mut Profile), expected: &str| {
        let mut profile = small();
        change(&mut profile);
        let error = Profile::parse(&profile.to_bytes().unwrap()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(|profile| profile.samples[0].locations[0] = 99, "location that is not there");
    check(|profile| profile.locations[0].lines[0].function = 99, "function that is not there");
    check(|profile| profile.samples[0].values.truncate(1), "one value for each");
}

#[test]
fn a_bomb_is_refused() {
    // Empty samples: two bytes each.
    let many: Vec<u8> = [0x12, 0x00].repeat((1 << 20) + 1);
    let error = Profile::parse(&many).unwrap_err().to_string();
    assert!(error.contains("more than 1048576 samples"), "{error}");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        drop(Profile::parse(&bytes));
    }

    #[test]
    fn no_change_of_a_profile_makes_it_panic(at in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<prop::sample::Index>()) {
        use std::io::Read as _;
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&*small().to_bytes().unwrap()).read_to_end(&mut plain).unwrap();
        let place = at.index(plain.len());
        plain[place] = value;
        if let Ok(profile) = Profile::parse(&plain) {
            let again = Profile::parse(&profile.to_bytes().unwrap()).unwrap();
            prop_assert_eq!(again, profile);
        }
        plain.truncate(cut.index(plain.len()));
        drop(Profile::parse(&plain));
    }
}
