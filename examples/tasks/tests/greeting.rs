use example_tasks::greeting::greeting;

#[test]
fn french_is_known() {
    assert_eq!(greeting("en"), Some("hello"));
    assert_eq!(greeting("fr"), Some("bonjour"));
    assert_eq!(greeting("xx"), None);
}
