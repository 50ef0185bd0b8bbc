# After the scenarios of OpenFeature's specification (github.com/open-feature/spec, Apache-2.0,
# specification/assets/gherkin: evaluation.feature and evaluation_v2.feature), by their names and with their flags, in
# words of our own. Left out is what a setting doesn't have: named variants, flag metadata, targeting by other attributes
# than the tenant; a provider that is not ready, or fails for good: ours is made known once it has read its table.
Feature: Flag evaluation

  Background:
    Given a provider with the flags of the specification

  Scenario Outline: Resolves <type> value, with details
    When the <type> flag "<flag>" is evaluated, where <default> is the default
    Then its value is <value>
    And the reason is STATIC
    And the details name the flag "<flag>"

    Examples:
      | type    | flag              | default | value                                                                      |
      | boolean | boolean-flag      | false   | true                                                                       |
      | string  | string-flag       | "bye"   | "hi"                                                                       |
      | integer | integer-flag      | 1       | 10                                                                         |
      | float   | float-flag        | 0.1     | 0.5                                                                        |
      | object  | object-flag       | {}      | {"showImages": true, "title": "Check out these pics!", "imagesPerPage": 100} |

  Scenario Outline: Resolves zero value of <type>
    When the <type> flag "<flag>" is evaluated, where <default> is the default
    Then its value is <value>
    And the reason is STATIC

    Examples:
      | type    | flag              | default | value |
      | boolean | boolean-zero-flag | true    | false |
      | string  | string-zero-flag  | "hi"    | ""    |
      | integer | integer-zero-flag | 1       | 0     |
      | float   | float-zero-flag   | 0.1     | 0.0   |

  Scenario Outline: Flag not found, of <type>
    When the <type> flag "missing-flag" is evaluated, where <default> is the default
    Then its value is <default>
    And the reason is ERROR
    And the error is FLAG_NOT_FOUND

    Examples:
      | type    | default  |
      | boolean | true     |
      | string  | "uh-oh"  |
      | integer | 13       |
      | float   | 0.1      |
      | object  | {"a": 1} |

  Scenario Outline: Type error: <flag> as <type>
    When the <type> flag "<flag>" is evaluated, where <default> is the default
    Then its value is <default>
    And the reason is ERROR
    And the error is TYPE_MISMATCH

    Examples:
      | type    | flag         | default |
      | integer | wrong-flag   | 13      |
      | boolean | string-flag  | false   |
      | string  | boolean-flag | "bye"   |
      | integer | boolean-flag | 1       |
      | float   | string-flag  | 0.1     |
      | object  | string-flag  | {}      |
      | boolean | object-flag  | true    |

  Scenario Outline: Resolves based on context: <tenant>
    Given a context with the tenant "<tenant>"
    When the boolean flag "context-aware" is evaluated, where <default> is the default
    Then its value is <value>
    And the reason is <reason>

    Examples:
      | tenant   | default | value | reason          |
      | internal | false   | true  | TARGETING_MATCH |
      | external | true    | false | DEFAULT         |

  Scenario: Resolves based on context: the context is empty
    When the boolean flag "context-aware" is evaluated, where true is the default
    Then its value is false
    And the reason is DEFAULT

  Scenario: A part of the users, and whoever is none
    Given a context with the user "u-1"
    When the boolean flag "split-flag" is evaluated, where false is the default
    Then its value is true
    And the reason is SPLIT

  Scenario: Targeting key missing
    When the boolean flag "split-flag" is evaluated, where false is the default
    Then its value is false
    And the reason is ERROR
    And the error is TARGETING_KEY_MISSING
