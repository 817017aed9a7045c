/// The greeting of a language, if it is known.
pub fn greeting(language: &str) -> Option<&'static str> {
    match language {
        "en" => Some("hello"),
        _ => None,
    }
}
