//! What a file's name says about its language.

use crate::path;

/// The name of a file's language as fenced blocks write it; "" where the ending is unknown.
pub fn of(file: &str) -> &'static str {
    let name = path::split(file).1;
    match name {
        "Dockerfile" => return "dockerfile",
        "Makefile" | "makefile" | "GNUmakefile" => return "makefile",
        "CMakeLists.txt" => return "cmake",
        _ => {}
    }
    let Some((_, ending)) = name.rsplit_once('.') else { return "" };
    let ending = ending.to_ascii_lowercase();
    LANGUAGES
        .iter()
        .find(|(endings, _)| endings.contains(&ending.as_str()))
        .map_or("", |(_, language)| language)
}

/// The language that a word after a fence means: its name, an ending of its files, or what else it is called; "" where
/// that is not known.
pub(crate) fn named(word: &str) -> &'static str {
    let word = match word {
        "python3" => "python",
        "node" => "javascript",
        "golang" => "go",
        "c++" => "cpp",
        "c#" => "csharp",
        "docker" => return "dockerfile",
        "make" | "makefile" => return "makefile",
        "shell" | "console" | "terminal" => "bash",
        "html5" => "html",
        word => word,
    };
    let known = |(endings, language): &&(&[&str], &'static str)| *language == word || endings.contains(&word);
    LANGUAGES.iter().find(known).map_or("", |(_, language)| language)
}

/// Whether one of two languages is often called by the other's name.
pub(crate) fn are_near(a: &str, b: &str) -> bool {
    const NEAR: [&[&str]; 6] = [
        &["javascript", "jsx", "typescript", "tsx"],
        &["c", "cpp", "cuda", "objectivec"],
        &["html", "xml"],
        &["css", "scss"],
        &["bash", "fish"],
        &["ini", "toml"],
    ];
    NEAR.iter().any(|near| near.contains(&a) && near.contains(&b))
}

/// How a line comment begins in a language.
pub fn comment(language: &str) -> &'static str {
    match language {
        "python" | "bash" | "yaml" | "toml" | "ruby" | "perl" | "r" | "makefile" | "dockerfile" | "cmake"
        | "elixir" | "julia" | "ini" | "fish" | "powershell" | "nix" | "graphql" => "#",
        "sql" | "lua" | "haskell" => "--",
        _ => "//",
    }
}

const LANGUAGES: [(&[&str], &str); 43] = [
    (&["py", "pyi", "pyw"], "python"),
    (&["rs"], "rust"),
    (&["js", "mjs", "cjs"], "javascript"),
    (&["jsx"], "jsx"),
    (&["ts", "mts", "cts"], "typescript"),
    (&["tsx"], "tsx"),
    (&["json", "jsonc"], "json"),
    (&["md", "markdown", "mdx"], "markdown"),
    (&["sh", "bash", "zsh"], "bash"),
    (&["fish"], "fish"),
    (&["ps1", "psm1"], "powershell"),
    (&["yaml", "yml"], "yaml"),
    (&["toml"], "toml"),
    (&["ini", "cfg", "conf"], "ini"),
    (&["html", "htm"], "html"),
    (&["xml", "svg"], "xml"),
    (&["css"], "css"),
    (&["scss"], "scss"),
    (&["c", "h"], "c"),
    (&["cc", "cpp", "cxx", "hh", "hpp", "hxx"], "cpp"),
    (&["cu", "cuh"], "cuda"),
    (&["cs"], "csharp"),
    (&["go"], "go"),
    (&["java"], "java"),
    (&["kt", "kts"], "kotlin"),
    (&["scala"], "scala"),
    (&["swift"], "swift"),
    (&["m", "mm"], "objectivec"),
    (&["rb"], "ruby"),
    (&["php"], "php"),
    (&["pl", "pm"], "perl"),
    (&["lua"], "lua"),
    (&["r"], "r"),
    (&["jl"], "julia"),
    (&["hs"], "haskell"),
    (&["ex", "exs"], "elixir"),
    (&["dart"], "dart"),
    (&["sql"], "sql"),
    (&["proto"], "protobuf"),
    (&["graphql", "gql"], "graphql"),
    (&["nix"], "nix"),
    (&["zig"], "zig"),
    (&["cmake"], "cmake"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_name_languages() {
        assert_eq!(of("src/a.test.MJS"), "javascript");
        assert_eq!(of("a.py"), "python");
        assert_eq!(of("Makefile"), "makefile");
        assert_eq!(of("a.b/c"), "");
        assert_eq!(of(".gitignore"), "");
        assert_eq!(comment(of("a.toml")), "#");
        assert_eq!(comment(of("a.rs")), "//");
        assert_eq!(comment(""), "//");
    }
}
