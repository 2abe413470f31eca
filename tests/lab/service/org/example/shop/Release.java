package org.example.shop;

/** The release that runs, from the image tag; newer releases switch on newer code. */
record Release(int major, int minor, int patch) {
    static Release parse(String tag) {
        String[] parts = tag.split("[.-]");
        return new Release(Integer.parseInt(parts[0]), Integer.parseInt(parts[1]), Integer.parseInt(parts[2]));
    }

    boolean atLeast(int wantedMajor, int wantedMinor) {
        return major > wantedMajor || (major == wantedMajor && minor >= wantedMinor);
    }

    @Override
    public String toString() {
        return major + "." + minor + "." + patch;
    }
}
