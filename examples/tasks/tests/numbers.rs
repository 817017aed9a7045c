#[path = "../src/numbers.rs"]
mod numbers;

#[test]
fn even_numbers() {
    assert!(numbers::is_even(0));
    assert!(numbers::is_even(-4));
    assert!(!numbers::is_even(7));
}
