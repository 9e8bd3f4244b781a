//! A service one release older than its peer keeps working: whatever one of them writes, the other reads.
//!
//! `compat/` holds the descriptors of earlier releases (`scripts/check-protocol.sh` says how they are made).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage,
    Value,
};

/// How deep messages inside messages are filled.
const DEPTH: u32 = 4;

fn present() -> DescriptorPool {
    let files = [
        "voxray/control/v1/control.proto",
        "voxray/archive/v1/archive.proto",
        "voxray/archive/v1/query.proto",
        "pipecat/frames.proto",
    ];
    let descriptors = protox::compile(files, [env!("CARGO_MANIFEST_DIR")]).unwrap();
    DescriptorPool::from_file_descriptor_set(descriptors).unwrap()
}

fn released() -> Vec<(String, DescriptorPool)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("compat");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let releases = files.filter(|file| file.extension().is_some_and(|extension| extension == "binpb"));
    releases
        .map(|file| {
            let pool = DescriptorPool::decode(std::fs::read(&file).unwrap().as_slice()).unwrap();
            (file.display().to_string(), pool)
        })
        .collect()
}

/// A message with a value in every field; of a oneof the `choice`th.
fn filled(descriptor: &MessageDescriptor, choice: usize, depth: u32) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        let skipped = field.containing_oneof().is_some_and(|oneof| {
            let count = oneof.fields().len();
            oneof.fields().nth(choice % count) != Some(field.clone())
        });
        let endless = matches!(field.kind(), Kind::Message(_)) && depth == 0;
        if !skipped && !endless {
            message.set_field(&field, value(&field, choice, depth));
        }
    }
    message
}

fn value(field: &FieldDescriptor, choice: usize, depth: u32) -> Value {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else {
            panic!("{field:?}")
        };
        let value = scalar(&entry.map_entry_value_field().kind(), 7, choice, depth);
        return Value::Map([(MapKey::String("key".to_owned()), value)].into());
    }
    let number = field.number() + 100;
    let one = scalar(&field.kind(), number, choice, depth);
    match field.cardinality() {
        Cardinality::Repeated => Value::List(vec![one.clone(), one]),
        Cardinality::Optional | Cardinality::Required => one,
    }
}

fn scalar(kind: &Kind, number: u32, choice: usize, depth: u32) -> Value {
    match kind {
        Kind::Double => Value::F64(f64::from(number)),
        Kind::Float => Value::F32(0.5),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(i32::try_from(number).unwrap()),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(i64::from(number)),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(number),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(u64::from(number)),
        Kind::Bool => Value::Bool(true),
        Kind::String => Value::String(format!("text {number}")),
        Kind::Bytes => Value::Bytes(vec![1, 2, 3].into()),
        Kind::Message(message) => Value::Message(filled(message, choice, depth - 1)),
        // One that both know, and not the default.
        Kind::Enum(kind) => Value::EnumNumber(kind.values().map(|value| value.number()).max().unwrap().min(1)),
    }
}

/// Every field that `expected` has set is in `found` under the same number, with the same value.
fn assert_holds(found: &DynamicMessage, expected: &DynamicMessage, of: &str) {
    for (field, value) in expected.fields() {
        let there = found
            .descriptor()
            .get_field(field.number())
            .unwrap_or_else(|| panic!("{of}: field {} {} is gone", field.number(), field.name()));
        assert_eq!(there.name(), field.name(), "{of}: field {}", field.number());
        assert_same(&found.get_field(&there), value, &format!("{of}.{}", field.name()));
    }
}

fn assert_same(found: &Value, expected: &Value, of: &str) {
    match (found, expected) {
        (Value::Message(found), Value::Message(expected)) => assert_holds(found, expected, of),
        (Value::List(found), Value::List(expected)) => {
            assert_eq!(found.len(), expected.len(), "{of}");
            for (found, expected) in found.iter().zip(expected) {
                assert_same(found, expected, of);
            }
        }
        (Value::Map(found), Value::Map(expected)) => {
            for (key, expected) in expected {
                assert_same(found.get(key).unwrap_or_else(|| panic!("{of}")), expected, of);
            }
        }
        (found, expected) => assert_eq!(found, expected, "{of}"),
    }
}

/// `message` as a peer with other descriptors reads it.
fn read_as(message: &DynamicMessage, descriptor: &MessageDescriptor) -> DynamicMessage {
    use prost_reflect::prost::Message as _;
    DynamicMessage::decode(descriptor.clone(), message.encode_to_vec().as_slice())
        .unwrap_or_else(|error| panic!("{}: {error}", descriptor.full_name()))
}

#[test]
fn what_an_earlier_release_writes_is_read_whole() {
    let present = present();
    let mut checked = 0;
    for (release, pool) in released() {
        for old in pool.all_messages().filter(|message| !message.is_map_entry()) {
            let new = present
                .get_message_by_name(old.full_name())
                .unwrap_or_else(|| panic!("{release}: {} is gone", old.full_name()));
            for choice in 0..8 {
                let written = filled(&old, choice, DEPTH);
                assert_holds(&read_as(&written, &new), &written, old.full_name());
                checked += 1;
            }
        }
    }
    assert!(checked > 100, "{checked} messages");
}

#[test]
fn what_this_release_writes_gives_an_earlier_one_all_that_it_knows() {
    let present = present();
    for (release, pool) in released() {
        for old in pool.all_messages().filter(|message| !message.is_map_entry()) {
            let new = present
                .get_message_by_name(old.full_name())
                .unwrap_or_else(|| panic!("{release}"));
            for choice in 0..8 {
                let written = filled(&new, choice, DEPTH);
                let read = read_as(&written, &old);
                // What it understood, said again, is still the same to us.
                assert_holds(&read_as(&read, &new), &read, old.full_name());
                for field in old.fields().filter(|field| field.containing_oneof().is_none()) {
                    assert_eq!(
                        read.has_field(&field),
                        written.has_field_by_number(field.number()),
                        "{release}: {field:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_an_earlier_release_calls_is_still_there() {
    let present = present();
    for (release, pool) in released() {
        for service in pool.services() {
            let now = present
                .get_service_by_name(service.full_name())
                .unwrap_or_else(|| panic!("{release}"));
            for method in service.methods() {
                let there = now.methods().find(|there| there.name() == method.name());
                let there = there.unwrap_or_else(|| panic!("{release}: {} is gone", method.full_name()));
                let shape = |method: &prost_reflect::MethodDescriptor| {
                    let (input, output) = (method.input(), method.output());
                    let names = (input.full_name().to_owned(), output.full_name().to_owned());
                    (names, method.is_client_streaming(), method.is_server_streaming())
                };
                assert_eq!(shape(&there), shape(&method), "{release}: {}", method.full_name());
            }
        }
    }
}
