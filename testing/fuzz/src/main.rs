//! The program of `cargo xtask fuzz`. With `--cfg instrumented` it is libFuzzer around the target
//! that `FUZZ_TARGET` names, whose seeds it writes into the folder `FUZZ_SEEDS`. Otherwise
//! `fuzz TARGET [FILE…]` runs a target on these files, or on its seeds.

#![cfg_attr(instrumented, no_main)]

#[cfg(instrumented)]
libfuzzer_sys::fuzz_target!(init: driven::plant_seeds(), |input| driven::run(input));

#[cfg(instrumented)]
mod driven {
    use std::sync::LazyLock;
    use std::{env, fs};

    use fuzz::{FuzzTarget, target};

    static TARGET: LazyLock<&FuzzTarget> = LazyLock::new(|| {
        let name = env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
        target(&name).unwrap_or_else(|| panic!("there is no target `{name}`"))
    });

    pub(crate) fn plant_seeds() {
        let folder = env::var("FUZZ_SEEDS").expect("FUZZ_SEEDS names a folder");
        for (number, seed) in (TARGET.seeds)().iter().enumerate() {
            fs::write(format!("{folder}/{number}"), seed).expect("a seed is written");
        }
    }

    pub(crate) fn run(input: &[u8]) {
        (TARGET.run)(input);
    }
}

#[cfg(not(instrumented))]
fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let target = fuzz::target(&name).ok_or_else(|| std::io::Error::other(format!("there is no target `{name}`")))?;
    let inputs: Vec<_> = arguments.map(std::fs::read).collect::<Result<_, _>>()?;
    let inputs = if inputs.is_empty() { (target.seeds)() } else { inputs };
    inputs.iter().for_each(|input| (target.run)(input));
    Ok(())
}
