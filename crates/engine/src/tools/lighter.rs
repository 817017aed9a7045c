//! Tools that are not strict, made lighter until their grammar can be compiled: what is left of a parameter is its types, and
//! of a tool at last its name.

use super::lark::{alone, text_alone};
use super::shape::{MOST_PARAMETERS, Shape};
use super::{CallFormat, Tool, ToolSet};
use crate::grammar::{MAX_SOURCE, schema};
use crate::{Error, Result, Tokenizer};

/// All together may take the compiler as much effort as this many schemas may each.
const MOST_SCHEMAS: usize = 2;

/// Makes the heaviest lighter, until all together can be compiled in time.
///
/// # Errors
/// [`Error::Request`] when those that are strict are too heavy themselves.
pub(super) fn for_effort(set: &ToolSet, shapes: &mut [Shape]) -> Result<()> {
    let most_of_all = MOST_SCHEMAS * schema::MOST_EFFORT;
    let weigh = |_: &Tool, shape: &Shape| match set.format {
        CallFormat::Json => schema::effort(&shape.document.root),
        CallFormat::Xml => {
            let mut total = 0;
            // Parameters may share what they refer to, and each is weighed with it: only until it is too much.
            for each in &shape.parameters {
                total += effort(&each.schema, shape);
                if total > most_of_all {
                    break;
                }
            }
            total
        }
    };
    lighten(set, shapes, &weigh, (schema::MOST_EFFORT, most_of_all))
}

/// What it takes to compile a part of a shape's schema, with what it refers to.
fn effort(part: &serde_json::Value, shape: &Shape) -> usize {
    let reached = schema::reached(part, &shape.document.root);
    schema::effort(part) + reached.into_values().map(schema::effort).sum::<usize>()
}

/// Makes the longest lighter, until all together are short enough.
///
/// # Errors
/// As [`for_effort`].
pub(super) fn for_size(tokenizer: &Tokenizer, set: &ToolSet, shapes: &mut [Shape]) -> Result<()> {
    let weigh = |tool: &Tool, shape: &Shape| match text_alone(tokenizer, set, tool, shape) {
        Ok(text) => text.len(),
        Err(_) => MAX_SOURCE,
    };
    lighten(set, shapes, &weigh, (MAX_SOURCE, MAX_SOURCE))
}

fn lighten(
    set: &ToolSet,
    shapes: &mut [Shape],
    weigh: &dyn Fn(&Tool, &Shape) -> usize,
    (most, most_of_all): (usize, usize),
) -> Result<()> {
    let mut weights: Vec<usize> =
        set.tools.iter().zip(&*shapes).map(|(tool, shape)| weigh(tool, shape)).collect();
    let mut order: Vec<(usize, &Tool)> = set.callable().filter(|(_, tool)| !tool.strict).collect();
    order.sort_by_key(|(i, _)| std::cmp::Reverse(weights[*i]));
    let mut total: usize = set.callable().map(|(i, _)| weights[i]).sum();
    let ways: [fn(&Shape) -> Shape; 2] = [Shape::coarse, |_| Shape::any()];
    for make in ways {
        for &(i, tool) in &order {
            if total > most_of_all || weights[i] > most {
                let lighter = make(&shapes[i]);
                let weight = weigh(tool, &lighter);
                if weight < weights[i] {
                    total = total - weights[i] + weight;
                    (shapes[i], weights[i]) = (lighter, weight);
                }
            }
        }
    }
    if total > most_of_all {
        let problem = "their schemas are too large together; send fewer, or leave out `strict`".to_owned();
        return Err(Error::Request { field: "tools", problem });
    }
    Ok(())
}

/// Leaves of each what compiles on its own.
pub(super) fn for_compiler(tokenizer: &Tokenizer, set: &ToolSet, shapes: &mut [Shape]) {
    for (i, tool) in set.callable().filter(|(_, tool)| !tool.strict) {
        let compiles = |shape: &Shape| alone(tokenizer, set, tool, shape).is_ok();
        let shape = &shapes[i];
        if compiles(shape) {
            continue;
        }
        let count = shape.parameters.len();
        let fails = |k: usize| k >= MOST_PARAMETERS || !compiles(&shape.only(k));
        let better = (0..count).filter(|&k| fails(k)).fold(shape.clone(), |shape, k| shape.typed(k));
        let all = [better, shape.coarse()].into_iter().find(compiles);
        shapes[i] = all.unwrap_or_else(Shape::any);
    }
}
