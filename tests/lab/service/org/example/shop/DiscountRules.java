package org.example.shop;

import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.List;

/**
 * Discount rules. Until 2.5 they are plain code; release 2.6 made them reloadable scripts, each request's rules compiled
 * into classes of their own class loader.
 */
final class DiscountRules {
    /** What a compiled rule amounts to: a class of its own. Its size in the metaspace is what matters here. */
    public static final class Rule {
        public int percentFor(int product) {
            return product % 7 == 0 ? 10 : product % 5 == 0 ? 5 : 0;
        }

        public String labelFor(int product) {
            return "Discount of " + percentFor(product) + " percent on product " + product;
        }
    }

    private static final class RuleLoader extends ClassLoader {
        Class<?> define(String name, byte[] code) {
            return defineClass(name, code, 0, code.length);
        }
    }

    private final boolean scripted;
    private final List<Class<?>> compiled = new ArrayList<>();
    private final byte[] code;

    DiscountRules(Release release) throws IOException {
        this.scripted = release.atLeast(2, 6);
        try (InputStream file = DiscountRules.class.getResourceAsStream("DiscountRules$Rule.class")) {
            this.code = file.readAllBytes();
        }
    }

    int percentFor(int product) throws ReflectiveOperationException {
        if (!scripted) {
            return new Rule().percentFor(product);
        }
        int percent = 0;
        for (int rule = 0; rule < 4; rule++) {
            Class<?> type = new RuleLoader().define(Rule.class.getName(), code);
            Object instance = type.getDeclaredConstructor().newInstance();
            percent = (int) type.getMethod("percentFor", int.class).invoke(instance, product);
            synchronized (compiled) {
                compiled.add(type);
            }
        }
        return percent;
    }
}
