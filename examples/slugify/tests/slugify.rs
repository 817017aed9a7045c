use slugify::slugify;

#[test]
fn titles_become_slugs() {
    assert_eq!(slugify("Hello World"), "hello-world");
    assert_eq!(slugify("From a Task to a Verified Edit"), "from-a-task-to-a-verified-edit");
    assert_eq!(slugify("rust"), "rust");
    assert_eq!(slugify(""), "");
}
