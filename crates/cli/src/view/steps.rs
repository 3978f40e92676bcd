//! What a file of apps comes to, and what is done to make it true: pure text.

use oxherd_config::{Deed, Step};
use oxherd_engine::core::{AppSpec, Sockets};

use super::form::Form;
use super::table::{Align, Cell, Column, Fit, Table};

const COLUMNS: [Column; 4] = [
    Column::new("name", Align::Left, Fit::Keep),
    Column::new("workers", Align::Left, Fit::Keep),
    Column::new("mode", Align::Left, Fit::Keep),
    Column::new("command", Align::Left, Fit::Cut),
];

/// The steps in their order, each with what differs below it.
pub(crate) fn told(steps: &[Step], form: Form) -> String {
    let mut text = String::new();
    for Step { name, deed, differences, spec, .. } in steps {
        let waits = spec.as_ref().is_some_and(|spec| !spec.autostart);
        let line = match deed {
            Deed::Start if waits => format!("add {name}, which starts by name"),
            Deed::Start | Deed::StartAgain | Deed::StartBy => format!("start {name}"),
            Deed::Adjust => format!("adjust {name}, no worker is replaced"),
            Deed::Reload => format!("reload {name}"),
            Deed::Restart(why) => format!("restart {name}, because {why}"),
            Deed::Scale(instances) => format!("scale {name} to {instances}"),
            Deed::Nothing => format!("unchanged {name}"),
            Deed::Delete => format!("delete {name}"),
        };
        text.push_str(&form.fit(&line));
        text.push('\n');
        let is_told = !matches!(deed, Deed::Scale(_));
        for difference in differences.iter().filter(|_| is_told) {
            text.push_str(&format!("  {}\n", form.fit(&difference.to_string())));
        }
    }
    text
}

/// The apps of a file.
pub(crate) fn apps(specs: &[AppSpec], form: Form) -> String {
    let mut table = Table::new(&COLUMNS);
    for spec in specs {
        let workers = match spec.scaling {
            Some(scaling) => format!("{}-{}", scaling.min, scaling.max),
            None => spec.instances.to_string(),
        };
        let cells = [&spec.name, &workers, mode(spec), &command(spec)].map(Cell::new);
        table.push(cells.into());
    }
    table.show(form)
}

fn mode(spec: &AppSpec) -> &'static str {
    match spec.sockets {
        Sockets::Channel => "cluster",
        Sockets::Universal => "universal",
        Sockets::ListenFds => "listen-fds",
        Sockets::None => "fork",
    }
}

/// As people would type it.
fn command(spec: &AppSpec) -> String {
    let about = &spec.upkeep.about;
    let interpreter = Some(&about.interpreter).filter(|it| !it.is_empty() && *it != "none");
    let words =
        interpreter.into_iter().chain(&about.interpreter_args).chain([&about.script]).chain(&about.args);
    words.map(String::as_str).collect::<Vec<_>>().join(" ")
}
