package org.example.shop;

import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.List;
import java.util.function.IntUnaryOperator;

/**
 * Discount rules. Until 2.5 they are plain code; release 2.6 made them scripts, compiled for each request into a class of
 * its own class loader, and kept.
 */
final class DiscountRules {
    /** What a compiled script amounts to: product number in, percent out. */
    public static final class Script implements IntUnaryOperator {
        @Override
        public int applyAsInt(int product) {
            return Math.max(Math.max(seasonal(product), clearance(product)), Math.max(bundle(product), loyalty(product)));
        }

        private int seasonal(int product) {
            return switch (product % 12) {
                case 0, 1, 11 -> 5;
                case 5, 6 -> 8;
                default -> 0;
            };
        }

        private int clearance(int product) {
            return switch (product % 100) {
                case 7, 14, 21, 28, 35 -> 30;
                case 42, 49, 56, 63, 70 -> 25;
                case 77, 84, 91, 98 -> 20;
                default -> 0;
            };
        }

        private int bundle(int product) {
            int percent = 0;
            for (int part = 2; part < 8; part++) {
                percent += product % part == 0 ? 1 : 0;
            }
            return percent;
        }

        private int loyalty(int product) {
            String digits = Integer.toString(product);
            return digits.endsWith("5") || digits.endsWith("0") ? 3 : digits.startsWith("9") ? 2 : 1;
        }
    }

    private static final class ScriptLoader extends ClassLoader {
        Class<?> define(String name, byte[] code) {
            return defineClass(name, code, 0, code.length);
        }
    }

    private final boolean scripted;
    private final List<IntUnaryOperator> compiled = new ArrayList<>();
    private final byte[] code;

    DiscountRules(Release release) throws IOException {
        this.scripted = release.atLeast(2, 6);
        try (InputStream file = DiscountRules.class.getResourceAsStream("DiscountRules$Script.class")) {
            this.code = file.readAllBytes();
        }
    }

    int percentFor(int product) throws ReflectiveOperationException {
        return (scripted ? compile() : new Script()).applyAsInt(product);
    }

    private IntUnaryOperator compile() throws ReflectiveOperationException {
        Class<?> type = new ScriptLoader().define(Script.class.getName(), code);
        IntUnaryOperator script = (IntUnaryOperator) type.getDeclaredConstructor().newInstance();
        synchronized (compiled) {
            compiled.add(script);
        }
        return script;
    }
}
