//! The table of containerd's `filters/filter_test.go`, and what it leaves out.

use super::{Filter, Filters};

struct Entry {
    name: &'static str,
    other: &'static str,
    labels: &'static [(&'static str, &'static str)],
}

const fn entry(
    name: &'static str,
    other: &'static str,
    labels: &'static [(&'static str, &'static str)],
) -> Entry {
    Entry {
        name,
        other,
        labels,
    }
}

const CORPUS: [Entry; 9] = [
    entry("foo", "", &[("foo", "true")]),
    entry("bar", "", &[]),
    entry(
        "foo",
        "",
        &[("foo", "present"), ("more complex label", "present")],
    ),
    entry("bar", "", &[("bar", "true")]),
    entry(
        "fooer",
        "",
        &[("more complex label with \\ and \"", "present")],
    ),
    entry(
        "fooer",
        "",
        &[("more complex label with \\ and \".post", "present")],
    ),
    entry("baz", "too complex, yo", &[]),
    entry("bazo", "abc", &[]),
    entry("compound", "", &[("foo", "omg_asdf.asdf-qwer")]),
];

fn field(entry: &Entry, path: &[String]) -> Option<String> {
    let present = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
    match path[0].as_str() {
        "name" => present(entry.name),
        "other" => present(entry.other),
        "labels" => {
            let key = path[1..].join(".");
            entry
                .labels
                .iter()
                .find(|(name, _)| *name == key)
                .map(|(_, value)| (*value).to_owned())
        }
        _ => None,
    }
}

fn matching(matches: impl Fn(&dyn Fn(&[String]) -> Option<String>) -> bool) -> Vec<usize> {
    (0..CORPUS.len())
        .filter(|&index| matches(&|path| field(&CORPUS[index], path)))
        .collect()
}

#[test]
fn matches_what_containerd_matches() {
    let all: Vec<usize> = (0..CORPUS.len()).collect();
    let table: [(&str, &[usize]); 26] = [
        ("", &all),
        ("name", &all),
        ("labels.foo", &[0, 2, 8]),
        ("labels.foo,name", &[0, 2, 8]),
        ("labels.foo==true", &[0]),
        ("labels.foo==omg_asdf.asdf-qwer", &[8]),
        ("name==bar", &[1, 3]),
        ("name!=bar", &[0, 2, 4, 5, 6, 7, 8]),
        ("name==bar,labels.bar", &[3]),
        ("other==\"too complex, yo\"", &[6]),
        ("other~=[abc]+,name!=foo", &[6, 7]),
        ("other~=/[abc]+/,name!=foo", &[6, 7]),
        ("other~=|[abc]+|,name!=foo", &[6, 7]),
        ("other~=/[abc]{1,2}/,name!=foo", &[6, 7]),
        ("other~=/[abc]{0,1}\"\\//,name!=foo", &[]),
        ("name==bar,labels.bar==true", &[3]),
        ("name==bar,labels.bar==wrong", &[]),
        (r#"name==foo,labels."more complex label""#, &[2]),
        (
            r#"labels."more complex label with \\ and \""==present"#,
            &[4],
        ),
        (
            r#"labels."more complex label with \\ and \"".post==present"#,
            &[5],
        ),
        ("nothing", &[]),
        ("nothing!=x", &all),
        ("other==\"\"", &[]),
        ("other!=\"\"", &[6, 7]),
        ("other~=^$,name==bar", &[1, 3]),
        ("other~=(", &[]),
    ];
    for (text, expected) in table {
        let filter = Filter::parse(text).unwrap();
        assert_eq!(matching(|field| filter.matches(field)), expected, "{text}");
    }
}

#[test]
fn says_where_a_text_is_no_filter() {
    let table = [
        (
            "labels.|foo|==omg_asdf.asdf-qwer",
            "[labels. >|||< foo|==omg_asdf.asdf-qwer]: invalid quote encountered",
        ),
        (
            r#"labels.?"more complex label with \\ and \"".post==present"#,
            r#"[labels. >|?|< "more complex label with \\ and \"".post==present]: expected field or quoted"#,
        ),
        ("name==foo,", "[name==foo,]: expected field or quoted"),
        ("labels.", "[labels.]: expected field or quoted"),
        (
            "image~=,id?=?fbaq",
            "[image~= >|,|< id?=?fbaq]: expected value or quoted",
        ),
        (
            "labels.ns/key==value",
            "[labels.ns >|/|< key==value]: quoted literal not terminated",
        ),
        (
            "labels.key==/value",
            "[labels.key== >|/|< value]: quoted literal not terminated",
        ),
        ("name=foo", "[name >|=|< foo]: unsupported operator \"=\""),
        ("name==", "[name==]: expected value or quoted"),
        (
            "näme==x",
            "[n >|ä|< me==x]: expected an operator (\"==\"|\"!=\"|\"~=\")",
        ),
        ("name==\"a\"b", "[name==\"a\" >|b|< ]: unexpected input: b"),
    ];
    for (text, expected) in table {
        let error = Filter::parse(text).unwrap_err().to_string();
        assert_eq!(error, format!("filters: parse error: {expected}"), "{text}");
    }
}

#[test]
fn several_filters_match_what_any_of_them_matches() {
    let filters = Filters::parse(&["name==baz", "name==bazo"]).unwrap();
    assert_eq!(matching(|field| filters.matches(field)), [6, 7]);
    let none: [&str; 0] = [];
    assert_eq!(
        matching(|field| Filters::parse(&none).unwrap().matches(field)).len(),
        CORPUS.len()
    );
    assert!(Filters::parse(&["name==a", "name="]).is_err());
}

#[test]
fn any_text_is_parsed_or_refused_without_panic() {
    let mut runner = proptest::test_runner::TestRunner::default();
    let texts = proptest::string::string_regex("[a-z./|\"\\\\,=~! é\\x00\\n0-9xuU]{0,24}").unwrap();
    let parsed = runner.run(&texts, |text| {
        let _ = Filter::parse(&text);
        Ok(())
    });
    parsed.unwrap();
}
