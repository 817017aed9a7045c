#[path = "../src/calendar.rs"]
mod calendar;

#[test]
fn leap_years() {
    assert!(calendar::is_leap_year(2024));
    assert!(calendar::is_leap_year(2000));
    assert!(!calendar::is_leap_year(1900));
    assert!(!calendar::is_leap_year(2023));
}
