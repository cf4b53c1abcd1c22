use proptest::prelude::*;

use super::*;

/// What Python 3.11 makes of each; the zone is UTC where the text names none.
#[test]
fn texts_are_read_as_python_reads_them() {
    for (text, expected) in [
        ("2023-11-14T23:13:20+00:00", "2023-11-14T23:13:20+00:00"),
        ("2023-11-15T07:13:20+08:00", "2023-11-14T23:13:20+00:00"),
        ("2023-11-14T10-0130", "2023-11-14T11:30:00+00:00"),
        ("2023-11-14T23:13:20Z", "2023-11-14T23:13:20+00:00"),
        ("2023-11-14 23:13:20+00:00", "2023-11-14T23:13:20+00:00"),
        ("2023-11-14é10", "2023-11-14T10:00:00+00:00"),
        ("20231114T231320+0000", "2023-11-14T23:13:20+00:00"),
        ("20231114", "2023-11-14T00:00:00+00:00"),
        ("20231114-10", "2023-11-14T10:00:00+00:00"),
        ("2023-W47-1T00:00:00+00:00", "2023-11-20T00:00:00+00:00"),
        ("2023-W47-1-10", "2023-11-20T10:00:00+00:00"),
        ("2023-W47-10:30", "2023-11-20T10:30:00+00:00"),
        ("2023-W47T10", "2023-11-20T10:00:00+00:00"),
        ("2023W471", "2023-11-20T00:00:00+00:00"),
        ("2023W47", "2023-11-20T00:00:00+00:00"),
        ("2023W471T10", "2023-11-20T10:00:00+00:00"),
        ("2023W47110", "2023-11-20T10:00:00+00:00"),
        ("2023W4711030", "2023-11-20T10:30:00+00:00"),
        ("2020-W53", "2020-12-28T00:00:00+00:00"),
        ("2023-11-14T10:30:20,5", "2023-11-14T10:30:20.500000+00:00"),
        ("2023-11-14T10:30:20.1234567", "2023-11-14T10:30:20.123000+00:00"),
        ("2023-11-14T10:30.5", "2023-11-14T10:30:00.500000+00:00"),
        ("2023-11-14T10+23:59:59.999999", "2023-11-13T10:00:00+00:00"),
        ("2023-11-14T10:30+01:60", "2023-11-14T08:30:00+00:00"),
        ("0001-01-03T00:00+00:00", "0001-01-03T00:00:00+00:00"),
    ] {
        let instant = read(text, Some(&TimeZone::UTC)).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(write(instant, None), expected, "{text}");
    }
    for text in [
        "",
        "2023",
        "2023-11",
        "2023-318",
        "2023-1114",
        "202311-14",
        "2023-W471",
        "2023W47-1",
        "2023W4711",
        "2023W4710",
        "2023-W47-",
        "2023-W53-1",
        "2023-W00",
        "2023-W47-8",
        "2023-02-29",
        "0000-01-01",
        "2023-11-14T",
        "2023-11-14T10:3",
        "2023-11-14T10:",
        "2023-11-14T1030:20",
        "2023-11-14T10:3020",
        "2023-11-14T10:30:20.",
        "2023-11-14T10:30:20.123456x",
        "2023-11-14T10:30:20z",
        "2023-11-14T10+",
        "2023-11-14T10+1",
        "2023-11-14T10+24",
        "2023-11-14T10Z0",
        "2023-11-14T24:00:00",
        "2023-11-14T23:59:60",
        "2023-11-14T+01:00",
        "２０23-11-14",
        "2023-11-14T10:30:2٣",
        "tomorrow",
        "300",
        "é",
    ] {
        assert_eq!(read(text, Some(&TimeZone::UTC)), None, "{text}");
    }
}

#[test]
fn without_an_offset_the_clocks_on_the_wall_count() {
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    for (text, utc) in
        [("2023-07-01T12:00:00", "2023-07-01T10:00:00+00:00"), ("2023-12-01T12:00:00", "2023-12-01T11:00:00+00:00")]
    {
        let instant = read(text, Some(&berlin)).unwrap();
        assert_eq!(write(instant, None), utc);
        assert_eq!(write(instant, Some(&berlin)), text);
        assert_eq!(read(text, None), None, "nobody says which clocks");
        assert_eq!(read(&format!("{text}+00:00"), Some(&berlin)), read(&format!("{text}Z"), None));
    }
}

#[test]
fn instants_that_no_calendar_has_are_its_ends() {
    let year = |millis: i64| write(Timestamp::from_millis(millis), None)[..10].to_owned();
    assert_eq!((year(i64::MIN).as_str(), year(i64::MAX).as_str()), ("0001-01-02", "9999-12-30"));
    assert_eq!(write(Timestamp::from_millis(-1), None), "1969-12-31T23:59:59.999000+00:00");
}

proptest! {
    #[test]
    fn instants_come_back(millis in FIRST..LAST) {
        let instant = Timestamp::from_millis(millis);
        prop_assert_eq!(read(&write(instant, None), None), Some(instant));
    }

    #[test]
    fn no_text_panics(text in "[0-9]{4}-?[0-9W]{1,3}-?[0-9]{0,4}.?[0-9:]{0,8}[.,]?[0-9]{0,8}[-+Z]?[0-9:.]{0,9}", any in ".{0,30}") {
        let _ = (read(&text, None), read(&any, Some(&TimeZone::UTC)));
    }
}
