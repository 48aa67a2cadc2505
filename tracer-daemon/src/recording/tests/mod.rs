//! Laws of the format: what is written is read, whatever is missing, added, or wrong.

mod draw;
mod hostile;

use proptest::prelude::*;
use serde::Serialize;

use self::draw::Draw;
use super::blocks::{self, Block, Blocks};
use super::*;
use crate::model::observation::Moment;
use crate::symbolize::Frame;

/// Blocks of a few entries.
fn written(entries: &[(Moment, Entry)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for (number, (at, entry)) in entries.iter().enumerate() {
        write(&mut writer, *at, entry);
        if number % 3 == 2 {
            writer.flush().unwrap();
        }
    }
    writer.finish().unwrap().0
}

fn write(writer: &mut Writer<Vec<u8>>, at: Moment, entry: &Entry) {
    match entry {
        Entry::Observation(observation) => writer.observation(at, observation).unwrap(),
        Entry::Note(note) => writer.note(at, note).unwrap(),
    }
}

fn read(file: &[u8]) -> (Vec<(Moment, Entry)>, Reader<&[u8]>) {
    let mut reader = Reader::new(file).unwrap();
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry() {
        entries.push(entry);
    }
    (entries, reader)
}

/// The records of a recording, block by block.
fn records(file: &[u8]) -> Vec<Vec<u8>> {
    let mut blocks = Blocks::new(file).unwrap();
    let mut records = Vec::new();
    while let Some(block) = blocks.next().unwrap() {
        if let Block::Records(bytes) = block {
            records.push(bytes);
        }
    }
    records
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(seed: u64) {
        let entries = Draw(seed).entries(12);
        let file = written(&entries);
        let (found, reader) = read(&file);
        prop_assert_eq!(found, entries);
        prop_assert!(matches!(reader.ending(), Ending::Complete));
        prop_assert_eq!(reader.skipped(), Skipped::default());
    }

    #[test]
    fn the_same_entries_give_the_same_file(seed: u64) {
        let entries = Draw(seed).entries(6);
        prop_assert_eq!(written(&entries), written(&entries));
    }

    #[test]
    fn of_a_file_that_was_cut_the_whole_blocks_are_read(seed: u64) {
        let entries = Draw(seed).entries(9);
        let file = written(&entries);
        for cut in (16..file.len()).step_by(7) {
            let (found, reader) = read(&file[..cut]);
            prop_assert!(found.len() % 3 == 0 || found.len() == entries.len());
            prop_assert_eq!(&found, &entries[..found.len()]);
            prop_assert!(matches!(reader.ending(), Ending::Cut));
        }
    }

    #[test]
    fn behind_a_byte_that_changed_nothing_is_believed(seed: u64, place: prop::sample::Index, value: u8) {
        let entries = Draw(seed).entries(9);
        let mut file = written(&entries);
        let place = 16 + place.index(file.len() - 16);
        let is_other = std::mem::replace(&mut file[place], value) != value;
        let (found, reader) = read(&file);
        prop_assert_eq!(&found, &entries[..found.len()]);
        prop_assert_eq!(matches!(reader.ending(), Ending::Complete), !is_other);
    }

    #[test]
    fn any_records_are_read_or_refused(records in prop::collection::vec(any::<u8>(), 0..400)) {
        read(&with_records(&records).unwrap());
    }

    #[test]
    fn changed_records_are_read_or_refused(
        seed: u64,
        patches in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = records(&written(&Draw(seed).entries(8))).concat();
        if !bytes.is_empty() {
            for (place, value) in patches {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            read(&with_records(&bytes).unwrap());
        }
    }
}

/// A recording of a real program with other numbers in it, so that what it says cannot be.
#[test]
fn whatever_a_recording_says_a_report_of_it_can_be_made() {
    const FILE: &[u8] = include_bytes!("../../../tests/recordings/leakyservice.leakline");
    let first_block = records(FILE).swap_remove(0);
    let cases = std::env::var("LEAKLINE_CASES").map_or(48, |cases| cases.parse().unwrap());
    for seed in 0..cases {
        let mut draw = Draw(seed);
        let mut bytes = first_block.clone();
        for _ in 0..=draw.below(4) {
            let place = usize::try_from(draw.below(bytes.len() as u64)).unwrap();
            match draw.below(3) {
                // The largest number, as long as it is written: 8 bytes.
                0 => {
                    let numbers = bytes.iter().skip(place).position(|byte| *byte == 0x1b).map(|at| place + at);
                    if let Some(number) = numbers.and_then(|at| bytes.get_mut(at + 1..at + 9)) {
                        number.fill(if draw.flag() { 0xff } else { 0x7f });
                    }
                }
                1 => {
                    let number = [&[0x1b][..], &draw.number().to_be_bytes()].concat();
                    bytes.splice(place..=place, number);
                }
                _ => bytes[place] = u8::try_from(draw.below(256)).unwrap(),
            }
        }
        let file = with_records(&bytes).unwrap();
        let mut replay = Replay::new(&file[..]).unwrap();
        while let Some(report) = replay.next_report() {
            crate::export::json::line(&report).unwrap();
            crate::export::text::render(&report, crate::export::text::Style::default());
        }
    }
}

/// What a later version might write.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Later {
    Music { loudness: f64, notes: Vec<Frame> },
    Refusals(Vec<LaterRefusal>),
    Reported(LaterReported),
    Goroutines(u8),
}

#[derive(Serialize)]
struct LaterRefusal {
    severity: Option<Vec<u8>>,
    id: &'static str,
    text: &'static str,
    kind: Kind,
}

#[derive(Serialize)]
enum Kind {
    New { number: u8 },
}

#[derive(Serialize)]
struct LaterReported {
    is_final: bool,
}

fn moment(at_ns: u64) -> Moment {
    Moment { at_ns, unix_ns: 1_000_000 + at_ns }
}

#[test]
fn kinds_and_fields_that_are_not_known_are_passed_over() {
    let first = Observation::Books(Box::new(Draw(1).books()));
    let second = Observation::Books(Box::new(Draw(2).books()));
    let mut writer = Writer::new(Vec::new()).unwrap();
    writer.observation(moment(1), &first).unwrap();
    for loudness in [0.5, 0.75] {
        writer.entry(moment(2), &Later::Music { loudness, notes: vec![Draw(3).frame()] }).unwrap();
    }
    let refusal =
        LaterRefusal { severity: Some(vec![1]), id: "sampler_off", text: "off", kind: Kind::New { number: 1 } };
    writer.entry(moment(3), &Later::Refusals(vec![refusal])).unwrap();
    writer.entry(moment(4), &Later::Reported(LaterReported { is_final: true })).unwrap();
    writer.observation(moment(5), &second).unwrap();
    let file = writer.finish().unwrap().0;
    let (found, reader) = read(&file);
    let expected = [
        (moment(1), Entry::Observation(first)),
        (moment(3), Entry::Note(Note::Refusals(vec![Refusal::new("sampler_off", "off")]))),
        (moment(4), Entry::Note(Note::Reported(Box::new(Reported { is_final: true, ..Reported::default() })))),
        (moment(5), Entry::Observation(second)),
    ];
    assert_eq!(found, expected);
    assert_eq!(reader.skipped(), Skipped { unknown: 2, not_understood: 0 });
    assert!(matches!(reader.ending(), Ending::Complete));
}

#[test]
fn an_entry_that_is_not_understood_costs_itself_only() {
    let mut writer = Writer::new(Vec::new()).unwrap();
    writer.entry(moment(1), &Later::Goroutines(7)).unwrap();
    writer.observation(moment(2), &Observation::Opened).unwrap();
    let file = writer.finish().unwrap().0;
    let (found, reader) = read(&file);
    assert_eq!(found, [(moment(2), Entry::Observation(Observation::Opened))]);
    assert_eq!(reader.skipped(), Skipped { unknown: 0, not_understood: 1 });
}

#[test]
fn records_and_blocks_of_unknown_kinds_are_passed_over() {
    let entries = [(moment(1), Entry::Observation(Observation::Opened))];
    let known = records(&written(&entries)).concat();
    // `[9, {"a": [1.5, h'00']}, tag 99 of -1]`
    let unknown = b"\x83\x09\xa1\x61a\x82\xf9\x3e\x00\x41\x00\xd8\x63\x20";
    let mut file = with_records(&[unknown, &known[..], unknown].concat()).unwrap();
    let end = file.split_off(file.len() - 16);
    let other_block = {
        let mut block = [&7_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), &0_u32.to_le_bytes()].concat();
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&block);
        checksum.update(b"abc");
        block.extend(checksum.finalize().to_le_bytes());
        block.extend(b"abc");
        block
    };
    let file = [file, other_block, end].concat();
    let (found, reader) = read(&file);
    assert_eq!(found, entries);
    assert_eq!(reader.skipped(), Skipped { unknown: 3, not_understood: 0 });
    assert!(matches!(reader.ending(), Ending::Complete));
}

#[test]
fn a_later_format_is_refused_and_a_later_addition_is_not() {
    let mut file = written(&[(moment(1), Entry::Observation(Observation::Opened))]);
    file[10] = 200;
    assert_eq!(read(&file).0.len(), 1);
    file[8] = 2;
    let error = Reader::new(&file[..]).unwrap_err().to_string();
    assert!(error.contains("format 2") && error.contains("later leakline"), "{error}");
    for other in [&b""[..], b"LEAKLINE", b"GIF89a..........", &[0; 64]] {
        assert!(matches!(Reader::new(other), Err(RecordingError::NoRecording)));
    }
}

#[test]
fn no_note_has_the_name_of_an_observation() {
    let mut draw = Draw(5);
    let mut names = std::collections::BTreeMap::new();
    for _ in 0..500 {
        let (is_note, value) = match draw.entry() {
            Entry::Observation(observation) => (false, serde_json::to_value(observation).unwrap()),
            Entry::Note(note) => (true, serde_json::to_value(note).unwrap()),
        };
        let name =
            value.as_str().map_or_else(|| value.as_object().unwrap().keys().next().unwrap().clone(), str::to_owned);
        assert_eq!(*names.entry(name).or_insert(is_note), is_note);
    }
    let names: Vec<&str> = names.keys().map(String::as_str).collect();
    // They are the format: a name that goes from here makes old recordings unreadable.
    let all = [
        "began",
        "births",
        "books",
        "discards",
        "goroutine_hooks",
        "goroutines",
        "impulses",
        "memory",
        "opened",
        "profile",
        "refusals",
        "reported",
    ];
    assert_eq!(names, all);
}

#[test]
fn goroutines_that_come_and_go_take_room_for_themselves_only() {
    let table = |ids: Vec<u64>| {
        let mut table = Draw(8).goroutines();
        while table.sites.is_empty() {
            table = Draw(table.live).goroutines();
        }
        table.sites.truncate(1);
        table.sites[0].ids = ids.into();
        Observation::Goroutines(std::sync::Arc::new(table))
    };
    let mut ids: Vec<u64> = (0..50_000).map(|number| number * 7).collect();
    let mut writer = Writer::new(Vec::new()).unwrap();
    writer.observation(moment(0), &table(ids.clone())).unwrap();
    writer.flush().unwrap();
    let before = writer.written_bytes();
    // Two of a hundred end and as many begin.
    let mut number = 0;
    ids.retain(|_| {
        number += 1;
        number % 50 != 0
    });
    ids.extend((0..1000).map(|number| 400_000 + number * 3));
    let expected = table(ids);
    writer.observation(moment(1), &expected).unwrap();
    writer.flush().unwrap();
    let more = writer.written_bytes() - before;
    assert!(more < 3000, "{more} bytes for 2000 changes of 50,000");
    let file = writer.finish().unwrap().0;
    assert_eq!(read(&file).0.pop().unwrap().1, Entry::Observation(expected));
}

#[test]
fn what_does_not_change_takes_little_room() {
    let books = Observation::Books(Box::new(Draw(7).books()));
    let mut writer = Writer::new(Vec::new()).unwrap();
    writer.observation(moment(0), &books).unwrap();
    writer.flush().unwrap();
    let before = writer.written_bytes();
    (1..=1000).for_each(|look| writer.observation(moment(look * 100_000_000), &books).unwrap());
    writer.flush().unwrap();
    let more = writer.written_bytes() - before;
    assert!(more < 2000, "{more} bytes for 1000 looks");
}

#[test]
fn a_recording_cannot_be_deeper_than_is_read() {
    let deep = [vec![0x81; 100_000], vec![0]].concat();
    let entry = [&b"\x82\x00\x65books\x85\x02\x00\x01\x00"[..], &deep].concat();
    let file = with_records(&entry).unwrap();
    let (found, reader) = read(&file);
    assert!(found.is_empty());
    assert!(matches!(reader.ending(), Ending::Damaged(RecordingError::TooLarge { what: "depth", .. })), "{reader:?}");
}

#[test]
fn a_recording_cannot_ask_for_more_memory_than_the_bounds() {
    // Four thousand million elements, of which none is there.
    let lengths =
        [&b"\x9a\xff\xff\xff\xff"[..], b"\xba\xff\xff\xff\xff", b"\x7a\xff\xff\xff\xff", b"\xca\xba\xff\xff\xff\xff"];
    for length in lengths {
        let entry = [&b"\x82\x00\x65books\x85\x02\x00\x01\x00"[..], length].concat();
        let file = with_records(&entry).unwrap();
        assert!(matches!(read(&file).1.ending(), Ending::Damaged(_)));
    }
    // A block that says that it is larger than its bytes can be.
    let mut file = Vec::new();
    blocks::write_header(&mut file).unwrap();
    let header = [1, 4, u32::MAX, 0].map(u32::to_le_bytes).concat();
    let file = [&file[..], &header, b"abcd"].concat();
    assert!(matches!(read(&file).1.ending(), Ending::Damaged(RecordingError::TooLarge { .. })));
}
