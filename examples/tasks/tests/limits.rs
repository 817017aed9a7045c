#[path = "../src/limits.rs"]
mod limits;

#[test]
fn limits_are_as_agreed() {
    assert_eq!(limits::MAX_RETRIES, 3);
    assert_eq!(limits::TIMEOUT_SECONDS, 30);
    assert_eq!(limits::PAGE_SIZE, 50);
}
