//! Instructions without files outside a Dockerfile: `commit --change`.

use super::{
    dockerfile::{Dockerfile, Instruction},
    settings::{self, Settings},
};
use crate::error::{Act as _, Error, Kind, Result};

/// Changes the object `config` of an image configuration as these instructions, in their order, say. Docker's list: CMD,
/// ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR.
///
/// # Errors
/// `Invalid` for what is no such instruction.
pub fn apply(settings: &mut Settings, changes: &[String]) -> Result<()> {
    let mut has_cmd = false;
    for text in changes {
        let act = || format!("change '{}'", text.escape_debug());
        // The parser wants a stage around them.
        let file = Dockerfile::parse("change", &format!("FROM scratch\n{text}")).act(act)?;
        let [stage] = file.stages.as_slice() else {
            return Err(Error::new(Kind::Invalid, format!("{}: FROM cannot be in it", act())));
        };
        for step in &stage.steps {
            let instruction = file.expand(step, &|name| settings::env(settings, name)).act(act)?;
            if !is_allowed(&instruction) {
                let word = step.text.split_whitespace().next().unwrap_or_default();
                let what = format!("{}: {} is no instruction for a commit", act(), word.to_uppercase());
                return Err(Error::new(Kind::Invalid, what));
            }
            settings::apply(settings, &instruction, has_cmd).act(act)?;
            has_cmd |= matches!(instruction, Instruction::Cmd(_));
        }
    }
    Ok(())
}

fn is_allowed(instruction: &Instruction) -> bool {
    matches!(
        instruction,
        Instruction::Cmd(_)
            | Instruction::Entrypoint(_)
            | Instruction::Env(_)
            | Instruction::Expose(_)
            | Instruction::Healthcheck(_)
            | Instruction::Label(_)
            | Instruction::Onbuild(_)
            | Instruction::Stopsignal(_)
            | Instruction::User(_)
            | Instruction::Volume(_)
            | Instruction::Workdir(_)
    )
}

#[cfg(test)]
mod tests {
    use super::{Settings, apply};

    #[test]
    fn instructions_change_the_settings_and_others_are_refused() {
        let mut settings = Settings::new();
        let changes = |changes: &[&str]| changes.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let given =
            changes(&["ENV A=1 B=2", "ENV C=${A}x", "CMD [\"a\", \"b\"]", "ENTRYPOINT [\"e\"]", "onbuild RUN x"]);
        apply(&mut settings, &given).unwrap();
        assert_eq!(settings["Env"], serde_json::json!(["A=1", "B=2", "C=1x"]));
        assert_eq!(settings["Cmd"], serde_json::json!(["a", "b"]));
        assert_eq!(settings["OnBuild"], serde_json::json!(["RUN x"]));
        for bad in ["RUN x", "COPY a b", "FROM x", "ARG x", "nonsense", "EXPOSE x"] {
            let error = apply(&mut settings, &changes(&[bad])).unwrap_err();
            assert_eq!(error.kind(), crate::Kind::Invalid, "{error}");
        }
    }
}
