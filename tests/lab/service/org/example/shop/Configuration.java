package org.example.shop;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;

/** Flat view of an {@code application.yaml}: nested or dotted keys, comments, quotes; lists are left alone. */
final class Configuration {
    private record Level(int indent, String prefix) {}

    private final Map<String, String> values = new LinkedHashMap<>();

    static Configuration read(Path file) throws IOException {
        Configuration configuration = new Configuration();
        Deque<Level> levels = new ArrayDeque<>();
        for (String line : Files.readAllLines(file)) {
            String body = withoutComment(line);
            int colon = body.indexOf(':');
            if (body.isBlank() || body.strip().startsWith("-") || colon < 0) {
                continue;
            }
            int indent = body.length() - body.stripLeading().length();
            while (!levels.isEmpty() && levels.peek().indent() >= indent) {
                levels.pop();
            }
            String key = (levels.isEmpty() ? "" : levels.peek().prefix() + ".") + body.substring(0, colon).strip();
            String value = body.substring(colon + 1).strip();
            if (value.isEmpty()) {
                levels.push(new Level(indent, key));
            } else {
                configuration.values.put(key, value.replaceAll("^[\"']|[\"']$", ""));
            }
        }
        return configuration;
    }

    private static String withoutComment(String line) {
        int hash = line.indexOf('#');
        boolean comment = hash == 0 || (hash > 0 && Character.isWhitespace(line.charAt(hash - 1)));
        return comment ? line.substring(0, hash) : line;
    }

    String text(String key, String otherwise) {
        return values.getOrDefault(key, otherwise);
    }

    int number(String key, int otherwise) {
        return Integer.parseInt(text(key, Integer.toString(otherwise)).replace("_", ""));
    }

    /** Spring's simple form (30m, 24h, 1d, 500ms), the ISO form (PT30M), or plain seconds as servlets count them. */
    static long durationMillis(String text) {
        String value = text.strip().toLowerCase(Locale.ROOT);
        if (value.startsWith("p")) {
            return Duration.parse(value).toMillis();
        }
        long count = Long.parseLong(value.replaceAll("[^0-9]", ""));
        return switch (value.replaceAll("[0-9]", "")) {
            case "ms" -> count;
            case "", "s" -> count * 1_000;
            case "m" -> count * 60_000;
            case "h" -> count * 3_600_000;
            case "d" -> count * 86_400_000;
            default -> throw new IllegalArgumentException("Not a duration: " + text);
        };
    }
}
