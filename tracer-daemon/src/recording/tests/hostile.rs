//! Laws of what a small file may cost: bounds are met long before memory or patience end.

use std::io::Cursor;

use super::super::changes::{ASCENDING, LIST};
use super::{Ending, Entry, Note, Reader, RecordingError, Replay, with_records};

/// The head of a value of CBOR.
fn head(major: u8, number: usize) -> Vec<u8> {
    let bytes = u32::try_from(number).unwrap().to_be_bytes();
    match number {
        0..24 => vec![major << 5 | bytes[3]],
        24..256 => vec![(major << 5) + 24, bytes[3]],
        _ => [&[(major << 5) + 26][..], &bytes].concat(),
    }
}

fn number(number: usize) -> Vec<u8> {
    head(0, number)
}

fn array(items: &[Vec<u8>]) -> Vec<u8> {
    [head(4, items.len()), items.concat()].concat()
}

/// One with a tag below 24.
fn tagged(tag: u64, value: &[u8]) -> Vec<u8> {
    [head(6, usize::try_from(tag).unwrap()), value.to_vec()].concat()
}

fn texts(texts: &[&str]) -> Vec<u8> {
    let written = texts.iter().map(|text| [head(3, text.len()), text.as_bytes().to_vec()].concat());
    array(&std::iter::once(number(0)).chain(written).collect::<Vec<_>>())
}

/// An entry whose kind is the text with this number.
fn entry(kind: usize, value: &[u8]) -> Vec<u8> {
    array(&[number(2), number(kind), number(0), number(0), value.to_vec()])
}

/// The same as the last one of its kind: six bytes.
fn again(kind: usize) -> Vec<u8> {
    let record = entry(kind, &[0xf7]);
    assert_eq!(record.len(), 6);
    record
}

/// How many entries are read, and what ends it.
fn counted(file: &[u8]) -> (usize, Reader<Cursor<Vec<u8>>>) {
    let mut reader = Reader::new(Cursor::new(file.to_vec())).unwrap();
    let count = std::iter::from_fn(|| reader.next_entry()).count();
    (count, reader)
}

fn too_large(reader: &Reader<Cursor<Vec<u8>>>) -> &'static str {
    match reader.ending() {
        Ending::Damaged(RecordingError::TooLarge { what, .. }) => what,
        other => panic!("{other:?}"),
    }
}

/// A note of 128 MiB in less than 64 KiB: 4096 times the same long text for each of two fields. Its kind is text 0.
fn large_note() -> Vec<u8> {
    let text = "x".repeat(16 << 10);
    let value = |number_of_text| tagged(8, &number(number_of_text));
    let refusal = [head(5, 2), number(1), value(3), number(2), value(3)].concat();
    [texts(&["refusals", "id", "text", &text]), entry(0, &array(&vec![refusal; 4096]))].concat()
}

#[test]
fn a_record_is_decoded_when_it_is_asked_for() {
    let opened = [texts(&["opened"]), entry(0, &[0xf6])].concat();
    let unknown = array(&[number(9), number(1)]);
    let file = with_records(&[&opened[..], &unknown, &again(0), b"\xff"].concat()).unwrap();
    let mut reader = Reader::new(&file[..]).unwrap();
    assert!(reader.next_entry().is_some());
    assert_eq!(reader.skipped().unknown, 0, "what follows was not looked at");
    assert!(reader.next_entry().is_some());
    assert_eq!(reader.skipped().unknown, 1);
    assert!(reader.next_entry().is_none());
    assert!(matches!(reader.ending(), Ending::Damaged(RecordingError::Malformed { .. })));
}

#[test]
fn a_small_file_stands_for_so_much_text_and_no_more() {
    let records = [large_note(), again(0).repeat(24)].concat();
    let file = with_records(&records).unwrap();
    assert!(file.len() < 2000);
    let (count, reader) = counted(&file);
    assert!(too_large(&reader).starts_with("bytes of texts"), "{reader:?}");
    assert_eq!(count, 8, "of 128 MiB each");
}

#[test]
fn a_report_costs_as_much_as_what_it_says() {
    let reported = [texts(&["reported"]), entry(4, &head(5, 0)), again(4).repeat(24)].concat();
    let file = with_records(&[large_note(), reported].concat()).unwrap();
    let (count, reader) = counted(&file);
    assert!(too_large(&reader).starts_with("bytes of texts"), "{reader:?}");
    assert_eq!(count, 8, "the note and seven reports that repeat it");
}

#[test]
fn a_small_file_asks_for_so_many_reports_and_no_more() {
    let records = [
        texts(&["began", "reported", "opened"]),
        entry(0, &head(5, 0)),
        entry(2, &[0xf6]),
        entry(1, &head(5, 0)),
        again(1).repeat(9000),
    ];
    let file = with_records(&records.concat()).unwrap();
    let (count, reader) = counted(&file);
    assert_eq!(too_large(&reader), "reports");
    assert!((1000..1200).contains(&count), "{count} entries of {} bytes", file.len());
    let mut replay = Replay::new(&file[..]).unwrap();
    let reports = std::iter::from_fn(|| replay.next_report()).count();
    // Where it breaks off, one of what is there is made.
    assert!(reports < 1200, "{reports} reports of {} bytes", file.len());
}

#[test]
fn as_many_reports_as_looks_are_no_reason_to_stop() {
    // At moments of real clocks, which are not as regular as the rest.
    let since = |look: u32| number((look.wrapping_mul(2_654_435_761) | 1 << 30) as usize);
    let entry_at = |kind, look| array(&[number(2), number(kind), since(look), number(0), vec![0xf7]]);
    let looks = (0..3000).flat_map(|look| [entry_at(2, 2 * look), entry_at(1, 2 * look + 1)]);
    let records = [
        texts(&["began", "reported", "opened"]),
        entry(0, &head(5, 0)),
        entry(2, &[0xf6]),
        entry(1, &head(5, 0)),
        looks.flatten().collect(),
    ];
    let file = with_records(&records.concat()).unwrap();
    let mut reader = Reader::new(&file[..]).unwrap();
    let reports = std::iter::from_fn(|| reader.next_entry())
        .filter(|(_, entry)| matches!(entry, Entry::Note(Note::Reported(_))))
        .count();
    assert_eq!(reports, 3001, "{:?}", reader.ending());
}

/// So many values that take little room and are not all the same: a block of zeros only would be too small for what it holds.
fn values(count: u32) -> Vec<u8> {
    let mixed = |place: u32| (place.wrapping_mul(place).wrapping_mul(2_654_435_761) >> 13) % 23;
    (0..count).map(|place| if place < 6000 { u8::try_from(mixed(place)).unwrap() } else { 0 }).collect()
}

/// A value of an unknown kind and changes of it, of which each costs as much as the whole.
fn changes_of_an_unknown_kind_are_work(value: &[u8], change: &[u8]) {
    let records = [texts(&["music"]), entry(0, value), entry(0, change).repeat(150)].concat();
    let (count, reader) = counted(&with_records(&records).unwrap());
    assert_eq!((count, too_large(&reader)), (0, "values of a recording"));
    assert!((60..90).contains(&reader.skipped().unknown), "{:?}", reader.skipped());
}

#[test]
fn moving_a_list_of_an_unknown_kind_is_work() {
    let list = [head(4, 1_000_000), values(1_000_000)].concat();
    let front = tagged(LIST, &array(&[number(1_000_000), number(1), number(0), number(5)]));
    changes_of_an_unknown_kind_are_work(&list, &front);
}

#[test]
fn rebuilding_a_list_of_an_unknown_kind_is_work() {
    let list = [head(4, 1_000_000), values(1_000_000)].concat();
    let all = tagged(ASCENDING, &array(&[number(1_000_000), number(0), number(0)]));
    changes_of_an_unknown_kind_are_work(&list, &all);
}

#[test]
fn looking_for_a_field_of_an_unknown_kind_is_work() {
    let fields = values(1_000_000).into_iter().flat_map(|value| [0, value]).collect();
    let all = [head(5, 1_000_001), fields, number(1), number(0)].concat();
    let last = [head(5, 1), number(1), number(1)].concat();
    changes_of_an_unknown_kind_are_work(&all, &last);
}
