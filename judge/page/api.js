"use strict";

const main = document.getElementById("api");

function add(parent, tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  parent.append(element);
  return element;
}

function type(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(type).join(" or ");
  if (schema.type === "array") return `list of ${type(schema.items)}`;
  return schema.format || schema.contentMediaType || schema.type || "anything";
}

function fields(schema) {
  const table = add(main, "table", "");
  for (const [name, field] of Object.entries(schema.properties || {})) {
    const row = add(table, "tr", "");
    add(row, "td", name);
    add(row, "td", type(field));
    add(row, "td", field.description || "");
  }
}

fetch("/api/openapi.json").then((answer) => answer.json()).then((document) => {
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, call] of Object.entries(methods)) {
      add(main, "h2", `${method.toUpperCase()} ${path}`);
      add(main, "p", call.description || call.summary);
      for (const content of Object.values((call.requestBody || { content: {} }).content)) {
        fields(document.components.schemas[type(content.schema)]);
      }
    }
  }
  for (const [name, schema] of Object.entries(document.components.schemas)) {
    if (name.startsWith("Body_") || name.includes("ValidationError")) continue;
    add(main, "h3", name);
    add(main, "p", schema.description || "");
    fields(schema);
  }
});
