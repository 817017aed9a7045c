use std::time::Duration;

use super::*;

#[test]
fn floats_as_python_writes_them() {
    // Left: what Python 3 prints for `repr` of the same number.
    let cases = [
        ("0.0", 0.0),
        ("-0.0", -0.0),
        ("1.0", 1.0),
        ("0.1", 0.1),
        ("123456789.125", 123_456_789.125),
        ("0.0001", 1e-4),
        ("1e-05", 1e-5),
        ("1.5e-07", 1.5e-7),
        ("1000000000000000.0", 1e15),
        ("1e+16", 1e16),
        ("1.2345e+20", 1.2345e20),
        ("1e+100", 1e100),
        ("5e-324", 5e-324),
        ("1.7976931348623157e+308", f64::MAX),
    ];
    for (expected, x) in cases {
        assert_eq!(float(x), expected);
    }
}

#[test]
fn dates() {
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    assert_eq!(strftime("%a %A %d %b %B %Y %j %p %I", at(0)), "Thu Thursday 01 Jan January 1970 001 AM 12");
    // 2024-02-29 13:14:15 UTC
    assert_eq!(strftime("%Y-%m-%d %H:%M:%S %-I %y %%", at(1_709_212_455)), "2024-02-29 13:14:15 1 24 %");
    // 2100-03-01 00:00:00 UTC: 2100 has no leap day.
    assert_eq!(strftime("%F %T %-d", at(4_107_542_400)), "2100-03-01 00:00:00 1");
    assert_eq!(strftime("%F %A", at(951_782_400)), "2000-02-29 Tuesday");
    assert_eq!(strftime("%F", at(978_220_800)), "2000-12-31");
    assert_eq!(strftime("%Q %", at(0)), "%Q %");
    // A clock before 1970 and one at the end of time do not panic.
    strftime("%c", SystemTime::UNIX_EPOCH - Duration::from_secs(1));
}
