package org.example.shop;

import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Instant;
import java.time.LocalDate;
import java.time.ZoneOffset;
import java.time.temporal.ChronoUnit;
import java.util.zip.GZIPOutputStream;

/** A log file in Spring Boot's default pattern, rolled by size into numbered .gz files. */
final class Log {
    private static final long ROLL_BYTES = 48 * 1024; // Small, so that a run of two minutes rolls now and then.
    private static final long PID = ProcessHandle.current().pid();
    private static Path file;
    private static OutputStream out;
    private static long written;
    private final String name;

    private Log(String name) {
        this.name = name;
    }

    static Log of(Class<?> type) {
        return new Log("o.e.shop." + type.getSimpleName());
    }

    static synchronized void open(Path path) throws IOException {
        file = path;
        Files.createDirectories(path.getParent());
        written = Files.exists(path) ? Files.size(path) : 0;
        out = Files.newOutputStream(path, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    }

    void debug(String message) {
        // Below the configured level; kept so that calls read as they would in a real service.
    }

    void info(String message) {
        write(" INFO", message, null);
    }

    void warn(String message) {
        write(" WARN", message, null);
    }

    void error(String message, Throwable error) {
        write("ERROR", message, error);
    }

    private void write(String level, String message, Throwable error) {
        append(render(level, message, error).getBytes(StandardCharsets.UTF_8));
    }

    /** Return the whole entry. Called once early, too: without metaspace its classes could not be loaded any more. */
    String render(String level, String message, Throwable error) {
        String thread = Thread.currentThread().getName();
        String shown = thread.length() > 15 ? thread.substring(thread.length() - 15) : thread;
        StringBuilder line = new StringBuilder(200)
                .append(Instant.now().truncatedTo(ChronoUnit.MILLIS)).append(' ').append(level).append(' ').append(PID)
                .append(" --- [checkout] [").append(" ".repeat(15 - shown.length())).append(shown).append("] ").append(name)
                .append(" ".repeat(Math.max(0, 40 - name.length()))).append(" : ").append(message).append('\n');
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            line.append(cause == error ? "\n" : "Caused by: ").append(cause).append('\n');
            for (StackTraceElement element : cause.getStackTrace()) {
                line.append("\tat ").append(element).append('\n');
            }
        }
        return line.toString();
    }

    private static synchronized void append(byte[] line) {
        try {
            if (written > ROLL_BYTES) {
                roll();
            }
            out.write(line);
            out.flush();
            written += line.length;
        } catch (IOException lost) {
            System.err.println("Log line lost: " + lost);
        }
    }

    private static void roll() throws IOException {
        out.close();
        int number = 0;
        Path target;
        do {
            target = file.resolveSibling(file.getFileName() + "." + LocalDate.now(ZoneOffset.UTC) + "." + number++ + ".gz");
        } while (Files.exists(target));
        try (OutputStream packed = new GZIPOutputStream(new BufferedOutputStream(Files.newOutputStream(target)))) {
            Files.copy(file, packed);
        }
        Files.delete(file);
        open(file);
    }
}
