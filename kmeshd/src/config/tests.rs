//! That the command line and its variables reach the configuration, and wrong words are refused.

use super::*;

fn parse(args: &[&str]) -> Args {
    Args::try_parse_from(args).expect("good arguments")
}

#[test]
fn every_option_has_a_variable_of_its_name() {
    let variables = variables();
    assert!(variables.len() > 20, "{variables:?}");
    let foreign = |long: &str| long == "local-xds-path" || long.starts_with("env-");
    for (long, env) in variables.iter().filter(|(long, _)| !foreign(long)) {
        assert_eq!(*env, format!("KMESH_{}", long.replace('-', "_").to_uppercase()));
    }
}

#[test]
fn options_may_stand_before_or_after_the_verb() {
    for args in [
        ["kmeshd", "snapshot", "--mesh", "m", "--node", "n"],
        ["kmeshd", "--mesh", "m", "--node", "n", "snapshot"],
    ] {
        let action = parse(&args).resolve().expect("an action");
        let Action::Snapshot { mesh, here, output } = action else { panic!("{action:?}") };
        assert_eq!((mesh, &*here.node, output), (PathBuf::from("m"), "n", Output::Json));
    }
}

#[test]
fn wrong_words_are_refused() {
    assert!(matches!(parse(&["kmeshd"]).resolve(), Err(ConfigError::NoMesh)));
    for args in [
        ["kmeshd", "--admin", "nowhere"],
        ["kmeshd", "--waypoint-port", "0"],
        ["kmeshd", "--waypoint-metadata", "xml"],
        ["kmeshd", "--max-pods", "0"],
        ["kmeshd", "--no-such", "1"],
    ] {
        assert!(Args::try_parse_from(args).is_err(), "{args:?}");
    }
    let ports: Vec<String> = (1..=17).map(|port| port.to_string()).collect();
    let args = ["kmeshd", "--mesh", "m", "--waypoint-exempt-ports", &ports.join(",")];
    assert!(matches!(parse(&args).resolve(), Err(ConfigError::ExemptPorts { count: 17 })));
    let long = format!("/{}", "d".repeat(100));
    let resolved = parse(&["kmeshd", "--mesh", "m", "--run-dir", &long]).resolve();
    let said = resolved.expect_err("too long for a socket").to_string();
    assert!(said.contains("113 bytes") && said.contains("--run-dir"), "{said}");
}

#[test]
fn limits_and_places_reach_the_configuration() {
    let args = ["kmeshd", "--mesh", "m", "--cgroup", "/c", "--max-workloads", "7"];
    let Ok(Action::Run(config)) = parse(&args).resolve() else { panic!("it runs") };
    assert_eq!(config.place.limits, Limits { workloads: 7, ..Limits::default() });
    assert!(!config.place.own_place);
    let args = ["kmeshd", "--mesh", "m", "--cgroup", "/c", "--bpf-root", "/b"];
    let Ok(Action::Run(config)) = parse(&args).resolve() else { panic!("it runs") };
    assert!(config.place.own_place);
}
