//! The vocabulary as llguidance wants it.

use std::sync::Arc;

use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use super::Core;

/// Longer tokens are never generated under a grammar: the trie has 10 bits for the length of a branch.
const MAX_TOKEN_BYTES: usize = 1000;

/// The trie has 22 bits for the number of its nodes, of which there is at most one for each byte.
const MAX_NODES: usize = 1 << 22;

struct Env {
    core: Arc<Core>,
    trie: TokTrie,
}

pub(super) fn env(core: Arc<Core>, ends: &[u32]) -> Result<TokEnv, String> {
    let Some(&end) = ends.first() else {
        return Err("the vocabulary has no end-of-text token".to_owned());
    };
    let words: Vec<Vec<u8>> = (0..core.special.len() as u32).map(|id| word(&core, id)).collect();
    let nodes: usize = words.iter().map(Vec::len).sum();
    if nodes >= MAX_NODES {
        return Err(format!("the vocabulary has `{nodes}` bytes; up to `{MAX_NODES}` are supported"));
    }
    let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), &words).with_eos_tokens(ends);
    Ok(Arc::new(Env { core, trie }))
}

/// A token's bytes, with the trie's marker before special ones; none when it cannot be generated.
fn word(core: &Core, id: u32) -> Vec<u8> {
    const MARKER: u8 = TokTrie::SPECIAL_TOKEN_MARKER;
    let bytes = core.token_bytes(id);
    // The marker's byte is not part of any UTF-8 text, so no grammar misses a token that contains it.
    if bytes.is_empty() || bytes.len() > MAX_TOKEN_BYTES || bytes.contains(&MARKER) {
        return Vec::new();
    }
    match core.special[id as usize] {
        true => [&[MARKER], bytes].concat(),
        false => bytes.to_vec(),
    }
}

impl TokenizerEnv for Env {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// As the model would see it in its training data, except that the text is not normalised: the tokens must have
    /// exactly the bytes that the grammar forces.
    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            let tokens = self.core.encode(text, &self.core.ordinary, None);
            tokens.unwrap_or_else(|_| self.trie.greedy_tokenize(text.as_bytes()))
        })
    }
}
