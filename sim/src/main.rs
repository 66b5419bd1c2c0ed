//! Quick look.
fn main() {
    use parapull_scenario::*;
    let a: Vec<String> = std::env::args().collect();
    let s = Scenario::single(
        ImageSource::Spec(ImageSpec::preset(&a[1]).unwrap()),
        Host::named(&a[2]).unwrap(),
        RegistryProfile::named(&a[3]).unwrap(),
        a[4].parse().unwrap(),
    );
    println!(
        "{}",
        serde_json::to_string_pretty(&parapull_sim::predict(&s).unwrap()).unwrap()
    );
}
